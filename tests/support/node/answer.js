// Answers what comes to a queue until its stdin ends: node answer.js URL QUEUE. A number is doubled,
// null is a failure, everything else comes back as it is.
'use strict';
const amqp = require('amqplib');

const [url, queue] = process.argv.slice(2);

async function main() {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  await channel.consume(queue, (message) => {
    const { replyTo, correlationId } = message.properties;
    const value = JSON.parse(message.content);
    const failed = { error: 'NodeError', message: 'null is nothing', job: 'node', attempt: 1 };
    const answer = value === null ? failed : typeof value === 'number' ? value * 2 : value;
    const type = value === null ? 'amqpjobs.error' : undefined;
    const options = { type, correlationId, contentType: 'application/json' };
    channel.sendToQueue(replyTo, Buffer.from(JSON.stringify(answer)), options);
    channel.ack(message);
  });
  console.log('ready');
  process.stdin.on('end', () => connection.close());
  process.stdin.resume();
}

main();
