// Node.js with amqplib, as in RabbitMQ's tutorial 6. Same works and result line as the Python
// contenders (see asking.py); amqplib is found through NODE_PATH.
//
// Levelled: prefetch, ack after the answer, a durable queue, transient requests. Validation is
// written by hand. Not levelled: nothing is confirmed, and a request has no timeout; but with
// CONFIRMS=1 (requests_node_confirmed.js) requests and answers are confirmed, what no queue takes is
// returned, a request is acked when its answer is confirmed, and each request has a timeout.
'use strict';
const amqp = require('amqplib');
const { order, validate } = require('./order');

const WARM_UP = 100; // requests that are not measured
const [url, queue, work, countText, inFlightText] = process.argv.slice(2);
const count = Number(countText);
const inFlight = Number(inFlightText);
const confirms = process.env.CONFIRMS === '1';
const open = (connection) =>
  confirms ? connection.createConfirmChannel() : connection.createChannel();
const TIMEOUT = 30_000; // milliseconds

async function answer(connection) {
  const channel = await open(connection);
  await channel.assertQueue(queue, { durable: true });
  await channel.prefetch(200);
  await channel.consume(queue, (message) => {
    const body = Buffer.from(JSON.stringify(validate(message.content).order_id));
    const { replyTo, correlationId } = message.properties;
    const options = { correlationId, contentType: 'application/json' };
    if (!confirms) {
      channel.sendToQueue(replyTo, body, options);
      channel.ack(message);
      return;
    }
    channel.sendToQueue(replyTo, body, { ...options, mandatory: true }, (error) => {
      if (error) channel.nack(message);
      else channel.ack(message);
    });
  });
}

async function asker(connection) {
  const channel = await open(connection);
  const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
  const waiting = new Map();
  let last = 0;
  await channel.consume(
    replyTo,
    ({ content, properties }) => {
      waiting.get(properties.correlationId)(JSON.parse(content));
      waiting.delete(properties.correlationId);
    },
    { noAck: true },
  );
  const plain = (value) =>
    new Promise((resolve) => {
      last += 1;
      const correlationId = String(last);
      waiting.set(correlationId, resolve);
      const body = Buffer.from(JSON.stringify(value));
      channel.sendToQueue(queue, body, { correlationId, replyTo, contentType: 'application/json' });
    });
  channel.on('return', (message) => {
    throw new Error(`no queue ${message.fields.routingKey}`);
  });
  const confirmed = (value) =>
    new Promise((resolve, reject) => {
      last += 1;
      const correlationId = String(last);
      const timer = setTimeout(() => reject(new Error('no answer in time')), TIMEOUT);
      waiting.set(correlationId, (answered) => {
        clearTimeout(timer);
        resolve(answered);
      });
      const body = Buffer.from(JSON.stringify(value));
      const options = { correlationId, replyTo, contentType: 'application/json', mandatory: true };
      channel.sendToQueue(queue, body, options, (error) => error && reject(error));
    });
  return confirms ? confirmed : plain;
}

async function ask(connection) {
  const request = await asker(connection);
  const orders = Array.from({ length: count }, (_, number) => order(number));
  for (const one of orders.slice(0, WARM_UP)) await request(one);
  const latencies = [];
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const one = orders[next];
      next += 1;
      const began = process.hrtime.bigint();
      const answered = await request(one);
      if (answered !== one.order_id) throw new Error(`${one.order_id} was answered ${answered}`);
      latencies.push(Number(process.hrtime.bigint() - began) / 1e9);
    }
  };
  const wall = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  await Promise.all(Array.from({ length: inFlight }, lane));
  const seconds = Number(process.hrtime.bigint() - wall) / 1e9;
  const used = process.cpuUsage(cpu);
  const line = { seconds, cpu: (used.user + used.system) / 1e6, count: latencies.length };
  if (inFlight === 1) line.latencies = latencies;
  console.log(JSON.stringify(line));
}

async function main() {
  const connection = await amqp.connect(url, { noDelay: true });
  if (work !== 'ask') await answer(connection);
  if (work === 'answer') {
    await new Promise((resolve) => process.stdin.on('end', resolve).resume());
  } else {
    await ask(connection);
  }
  await connection.close();
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
