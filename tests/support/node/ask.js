// Asks a job and prints the answers: node ask.js URL QUEUE TYPE WAY COUNT. WAY is `own` for a reply
// queue of its own, or `direct` for amq.rabbitmq.reply-to.
'use strict';
const amqp = require('amqplib');

const [url, queue, type, way, count] = process.argv.slice(2);

async function main() {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  const replyTo =
    way === 'direct'
      ? 'amq.rabbitmq.reply-to'
      : (await channel.assertQueue('', { exclusive: true })).queue;
  const answers = {};
  let left = Number(count);
  await new Promise((resolve) => {
    channel.consume(
      replyTo,
      (message) => {
        const { correlationId, type: kind } = message.properties;
        answers[correlationId] = { type: kind, body: JSON.parse(message.content) };
        if (--left === 0) resolve();
      },
      { noAck: true },
    );
    for (let n = 0; n < Number(count); n++) {
      const options = { type, contentType: 'application/json', replyTo, correlationId: `n${n}` };
      channel.sendToQueue(queue, Buffer.from(JSON.stringify(n)), options);
    }
  });
  console.log(JSON.stringify(answers));
  await connection.close();
}

main();
