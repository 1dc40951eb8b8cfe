// The page of the album. Four parts: what is known of each photograph (kept over a reload), sending
// photographs in, one stream of what becomes of them, and a look every one or two seconds whether
// the server is there. Names come from strangers: they are only
// ever text.

const MOST = 200; // photographs on one page, as the server follows them
const LARGEST = 25_000_000; // bytes, as the server takes them
const AT_ONCE = 3; // uploads; a browser has six connections to a server, and one is the stream's
const KEPT = "photo-album";

const WORDS = {
  sending: "sending", queued: "waiting", started: "in work", retrying: "failed, is tried again",
  snoozed: "put off", released: "waiting", parked: "waiting for a newer worker", done: "done",
  failed: "failed", expired: "came too late", cancelled: "cancelled",
};

const find = (id) => document.getElementById(id);
const photographs = new Map(); // by id, in order: {id, name, state, error, progress, detail, order, ...}

// ---- what is known

function kindOf(photograph) {
  if (photograph.state === "done") return "done";
  if (photograph.ended || photograph.state === "lost") return "failed";
  return photograph.state === "queued" || photograph.state === "sending" ? "waiting" : "working";
}

function add(name, more) {
  const photograph = { id: newId(), name, state: "sending", ended: false, sent: false, ...more };
  photographs.set(photograph.id, photograph);
  return photograph;
}

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // Without TLS, browsers have it on the machine itself only.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function isNewer(order, than) {
  if (!than) return true;
  for (let i = 0; i < order.length; i++) {
    if (order[i] !== than[i]) return order[i] > than[i];
  }
  return false;
}

function learn(status) {
  const photograph = photographs.get(status.id);
  if (!photograph || !isNewer(status.order, photograph.order)) return;
  Object.assign(photograph, status, { sent: true });
  changed(photograph);
}

function keep() {
  const known = Array.from(photographs.values(), ({ file, sending, ...rest }) => rest);
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(known));
  } catch {
    // No room, or not allowed: the page works, and a reload forgets.
  }
}

function recall() {
  let known = [];
  try {
    known = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  } catch {
    // Nothing that we wrote.
  }
  for (const photograph of known) {
    // What the browser was sending is gone with the page. If all of it arrived, the stream says so.
    if (!photograph.sent && !photograph.ended) photograph.state = "lost";
    photographs.set(photograph.id, photograph);
  }
}

// ---- what is seen

const tiles = new Map(); // by id
let frame = 0;
const dirty = new Set();

function changed(photograph) {
  if (photographs.get(photograph.id) !== photograph) return; // cleared while it was sent
  dirty.add(photograph);
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  const fresh = document.createDocumentFragment();
  for (const photograph of dirty) {
    if (!tiles.has(photograph.id)) fresh.prepend(newTile(photograph)); // the newest first
    drawTile(tiles.get(photograph.id), photograph);
  }
  dirty.clear();
  find("tiles").prepend(fresh);
  drawOverview();
  keep();
}

function newTile(photograph) {
  const tile = find("tile").content.firstElementChild.cloneNode(true);
  tile.dataset.id = photograph.id;
  const name = tile.querySelector(".name");
  name.textContent = photograph.name;
  name.title = photograph.name;
  tile.querySelector("progress").setAttribute("aria-label", photograph.name);
  tiles.set(photograph.id, tile);
  return tile;
}

function drawTile(tile, photograph) {
  const kind = kindOf(photograph);
  tile.dataset.kind = kind;
  tile.dataset.state = photograph.state;
  tile.querySelector(".state").textContent = wordsFor(photograph, kind);
  const bar = tile.querySelector("progress");
  bar.value = (photograph.state === "sending" ? photograph.sending : photograph.progress) ?? 0;
  if (kind === "done") showPicture(tile, photograph);
}

function wordsFor(photograph, kind) {
  if (kind === "failed") return reasonFor(photograph);
  if (photograph.state === "sending") {
    return photograph.trouble || `sending, ${percent(photograph.sending)}`;
  }
  if (kind === "working" && photograph.detail) {
    return `${photograph.detail}, ${percent(photograph.progress)}`;
  }
  return WORDS[photograph.state] ?? photograph.state;
}

function reasonFor({ name, state, error }) {
  if (!error) return WORDS[state] ?? "failed";
  const repeated = `${name} is `; // as it stands above
  return error.startsWith(repeated) ? error.slice(repeated.length) : error;
}

const percent = (fraction) => `${Math.round((fraction ?? 0) * 100)}\u00a0%`;

function showPicture(tile, photograph) {
  const image = tile.querySelector("img");
  if (!image.hidden) return;
  image.src = `photographs/${photograph.id}/thumbnail`;
  image.alt = photograph.name;
  image.hidden = false;
  const link = tile.querySelector(".picture");
  link.href = `photographs/${photograph.id}/web`;
  link.target = "_blank";
  link.rel = "noopener";
  link.title = "Show it in the size for the web";
}

function drawOverview() {
  const all = [...photographs.values()];
  const done = all.filter((photograph) => kindOf(photograph) === "done").length;
  const failed = all.filter((photograph) => kindOf(photograph) === "failed");
  find("overview").hidden = all.length === 0;
  find("empty").hidden = all.length > 0;
  find("whole").value = all.length ? (done + failed.length) / all.length : 0;
  const summary = `${done} of ${all.length} done` + whichFailed(failed);
  say("summary", summary);
  announce(summary);
  document.title = all.length ? `${done}/${all.length} · Photo album` : "Photo album";
}

function whichFailed(failed) {
  if (failed.length === 0) return "";
  const names = failed.slice(0, 3).map((photograph) => photograph.name).join(", ");
  return `, ${failed.length} failed: ${names}` + (failed.length > 3 ? " and others" : "");
}

let news = 0;

// For those who hear the page: what is so by then, every few seconds, and not each of fifty changes.
function announce(summary) {
  announce.next = summary;
  news ||= setTimeout(() => {
    news = 0;
    say("news", announce.next);
  }, 2500);
}

function say(where, text) {
  const place = find(where);
  // Readers read aloud what changes here: nothing does unless it says something new.
  if (place.textContent !== text) place.textContent = text;
}

// ---- sending

const line = []; // photographs that wait for their turn
let sending = 0;

function send(photograph) {
  line.push(photograph);
  changed(photograph);
  follow(); // before it is there: nothing of it is missed
  sendNext();
}

function sendNext() {
  while (sending < AT_ONCE && line.length) {
    sending += 1;
    sendWhole(line.shift()).finally(() => {
      sending -= 1;
      sendNext();
    });
  }
}

// Again and again, if need be: the id is the same, so it becomes one photograph, however often.
async function sendWhole(photograph) {
  for (let pause = 500; photographs.has(photograph.id); pause = Math.min(pause * 2, 10_000)) {
    const { status, reason } = await put(photograph);
    if (status === 202) return accepted(photograph);
    if (status >= 400 && status !== 503 && status !== 502 && status !== 504) {
      return refused(photograph, reason);
    }
    photograph.trouble = "waiting for the server";
    changed(photograph);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function accepted(photograph) {
  photograph.sent = true;
  photograph.file = null;
  if (photograph.state === "sending") photograph.state = "queued";
  changed(photograph);
}

function refused(photograph, reason) {
  Object.assign(photograph, { state: "failed", ended: true, sent: true, error: reason, file: null });
  changed(photograph);
  follow();
}

// One upload: its status, 0 if the server was not reached. `fetch` does not tell how far it is.
function put(photograph) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const name = encodeURIComponent(photograph.name);
    const way = photograph.file ? `?name=${name}` : `/from/${name}`;
    request.open("PUT", `photographs/${photograph.id}${way}`);
    request.upload.onprogress = (event) => {
      photograph.trouble = "";
      photograph.sending = event.total ? event.loaded / event.total : 0;
      changed(photograph);
    };
    request.onloadend = () => resolve({ status: request.status, reason: reasonOf(request) });
    request.send(photograph.file ?? null);
  });
}

function reasonOf(request) {
  try {
    const { detail } = JSON.parse(request.responseText);
    if (typeof detail === "string") return detail;
  } catch {
    // No JSON: not our server, or none.
  }
  return `the server refused it (${request.status})`;
}

function take(files) {
  for (const file of files) {
    if (photographs.size >= MOST) {
      say("full", `A page shows ${MOST} photographs. Clear it to go on.`);
      break;
    }
    if (file.size > LARGEST) {
      const error = `${megabytes(file.size)}; a photograph may have up to ${megabytes(LARGEST)}`;
      changed(add(file.name, { state: "failed", ended: true, sent: true, error }));
    } else {
      send(add(file.name, { file }));
    }
  }
}

const megabytes = (bytes) => `${Math.round(bytes / 1_000_000)} MB`;

// ---- following

let stream = null;
let followed = "";
let again = 0;

// One stream for all that is not over. It is opened anew when there is more to follow.
function follow() {
  clearTimeout(again);
  again = setTimeout(() => {
    const open = [...photographs.values()].filter((photograph) => !photograph.ended);
    const ids = open.map((photograph) => `id=${photograph.id}`).join("&");
    if (ids === followed && stream) return;
    stream?.close();
    stream = null;
    followed = ids;
    if (ids) listen(ids);
    else connected("stream", true);
  }, 50);
}

function listen(ids) {
  stream = new EventSource(`photographs/events?${ids}`);
  stream.onopen = () => connected("stream", true);
  stream.onmessage = (event) => learn(JSON.parse(event.data));
  stream.addEventListener("end", () => {
    stream.close();
    stream = null;
    followed = "";
  });
  stream.onerror = () => {
    connected("stream", false);
    // A browser tries again by itself, but not after an answer such as 502 of a proxy.
    if (stream?.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(follow, 2000);
    }
  };
}

// ---- the server

const LOOK = { shared: 1000, alone: 2000 }; // milliseconds between two looks
const SILENCE = 2000; // milliseconds without an answer, after which the server is lost
const lost = new Set(); // what has no connection: the stream, the looks

function connected(what, isSo) {
  if (isSo) lost.delete(what);
  else lost.add(what);
  say("connection", lost.size ? "Connection lost. Trying again…" : "");
}

const cleared = new Set(); // ids; they are not shown again

// The stream alone does not tell: without photographs there is none, and a server that hangs, or a
// network that is gone, leaves it open. Where all pages are one person's (a show), the answer has what
// was put in on any of them.
async function look() {
  const wasLost = lost.has("look");
  let pause = LOOK.shared;
  try {
    const answer = await fetch("photographs", { signal: AbortSignal.timeout(SILENCE) });
    if (!answer.ok) throw new Error(answer.status);
    const others = await answer.json();
    showOthers(others.photographs);
    if (!others.shared) pause = LOOK.alone;
    connected("look", true);
    if (wasLost) followAnew();
  } catch {
    connected("look", false);
  }
  setTimeout(look, pause);
}

// What the old stream would have said may be lost with the connection that it has.
function followAnew() {
  stream?.close();
  stream = null;
  follow();
}

function showOthers(others) {
  for (const { id, name } of others) {
    if (photographs.has(id) || cleared.has(id)) continue;
    if (photographs.size >= MOST) forgetOldest();
    photographs.set(id, { id, name, state: "queued", ended: false, sent: true });
    changed(photographs.get(id));
    follow();
  }
}

function forgetOldest() {
  const [id] = photographs.keys();
  photographs.delete(id);
  tiles.get(id)?.remove();
  tiles.delete(id);
  cleared.add(id);
}

// ---- the page's own controls

function clear() {
  for (const id of photographs.keys()) cleared.add(id);
  photographs.clear();
  tiles.clear();
  dirty.clear();
  line.length = 0;
  find("tiles").replaceChildren();
  say("full", "");
  drawOverview();
  keep();
  follow();
  find("files").focus();
}

async function offerThoseHere() {
  const answer = await fetch("photographs/here").catch(() => null);
  const here = answer?.ok ? await answer.json() : [];
  find("open-here").hidden = here.length === 0;
  const choices = here.map(({ name }) => {
    const choice = find("choice").content.firstElementChild.cloneNode(true);
    choice.querySelector("input").value = name;
    choice.querySelector("img").src = `photographs/here/${encodeURIComponent(name)}`;
    choice.querySelector("span").textContent = name;
    return choice;
  });
  find("choices").replaceChildren(...choices);
}

const chosen = () => [...find("choices").querySelectorAll(":checked")];

function countChosen() {
  const count = chosen().length;
  find("add").disabled = count === 0;
  find("add").textContent = count ? `Add ${count}` : "Add";
}

function addChosen() {
  if (find("here").returnValue !== "add") return;
  for (const box of chosen()) {
    if (photographs.size < MOST) send(add(box.value));
    box.checked = false;
  }
  countChosen();
}

find("files").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = ""; // the same file may be chosen again
});
find("clear").addEventListener("click", clear);
find("open-here").addEventListener("click", () => {
  find("here").returnValue = "";
  find("here").showModal();
});
find("here").addEventListener("close", addChosen);
find("choices").addEventListener("change", countChosen);
find("all").addEventListener("click", () => {
  const boxes = [...find("choices").querySelectorAll("input")];
  const every = boxes.every((box) => box.checked);
  for (const box of boxes) box.checked = !every;
  countChosen();
});

for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
}
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  take(event.dataTransfer.files);
});

recall();
for (const photograph of photographs.values()) {
  if (photograph.state === "lost") photograph.error = "was not sent whole; choose it again";
  changed(photograph);
}
follow();
offerThoseHere();
look();
