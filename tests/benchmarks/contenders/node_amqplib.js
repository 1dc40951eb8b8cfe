// Node.js with amqplib, promise API. Same command line and result line as the Python contenders
// (see protocol.py); amqplib is found through NODE_PATH.
//
// Levelled: persistent messages, a confirm channel, prefetch, a quorum queue. Validation is written by
// hand (five type checks); its handler is synchronous, as every amqplib example's is.
'use strict';
const amqp = require('amqplib');
const { order, validate } = require('./order');

const IN_FLIGHT = 500;
const LINGER_MS = 500; // see LINGER in protocol.py
const [url, queue, work, countText, prefetchText] = process.argv.slice(2);
const count = Number(countText);
const prefetch = Number(prefetchText);

function stopwatch() {
  const wall = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  return () => {
    const used = process.cpuUsage(cpu);
    return {
      seconds: Number(process.hrtime.bigint() - wall) / 1e9,
      cpu: (used.user + used.system) / 1e6,
    };
  };
}

function report(measured, handled, checksum) {
  const line = { ...measured, count: handled, checksum, peak_kib: process.resourceUsage().maxRSS };
  console.log(JSON.stringify(line));
}

async function consume(connection) {
  const channel = await connection.createChannel();
  await channel.prefetch(prefetch);
  let handled = 0;
  let checksum = 0;
  let stop;
  await new Promise((resolve, reject) => {
    channel.consume(queue, (message) => {
      try {
        if (handled === 0) stop = stopwatch();
        const value = validate(message.content);
        handled += 1;
        if (handled <= count) checksum += value.order_id;
        channel.ack(message);
        if (handled === count) resolve();
      } catch (error) {
        reject(error);
      }
    }).catch(reject);
  });
  // amqplib writes at the end of the loop's turn: this answer comes after the last ack has arrived.
  await channel.checkQueue(queue);
  const measured = stop();
  await new Promise((resolve) => setTimeout(resolve, LINGER_MS));
  report(measured, handled, checksum);
  await channel.close();
}

async function publish(connection, window) {
  const channel = await connection.createConfirmChannel();
  const orders = Array.from({ length: count }, (_, number) => order(number));
  const options = { persistent: true, contentType: 'application/json' };
  const stop = stopwatch();
  await new Promise((resolve, reject) => {
    let sent = 0;
    let confirmed = 0;
    const next = () => {
      if (sent === count) return;
      const body = Buffer.from(JSON.stringify(orders[sent]));
      sent += 1;
      channel.sendToQueue(queue, body, options, (error) => {
        if (error) return reject(error);
        confirmed += 1;
        if (confirmed === count) return resolve();
        next();
      });
    };
    for (let lane = 0; lane < Math.min(window, count); lane += 1) next();
  });
  report(stop(), count, null);
  await channel.close();
}

async function main() {
  const connection = await amqp.connect(url, { noDelay: true });
  if (work === 'consume') await consume(connection);
  else await publish(connection, work === 'sequential' ? 1 : IN_FLIGHT);
  await connection.close();
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
