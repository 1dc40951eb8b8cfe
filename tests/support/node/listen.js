// Prints the events of an exchange, a line of JSON each, until its stdin ends:
// node listen.js URL EXCHANGE TYPE KEY
'use strict';
const amqp = require('amqplib');

const [url, exchange, type, key] = process.argv.slice(2);

async function main() {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  await channel.assertExchange(exchange, type, { durable: true });
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await channel.bindQueue(queue, exchange, key);
  await channel.consume(queue, (message) => {
    const p = message.properties;
    const heard = {
      key: message.fields.routingKey,
      body: JSON.parse(message.content),
      content_type: p.contentType,
      message_id: p.messageId,
      type: p.type,
      app_id: p.appId,
      timestamp: p.timestamp,
      delivery_mode: p.deliveryMode,
      headers: p.headers,
    };
    console.log(JSON.stringify(heard));
    channel.ack(message);
  });
  console.log('ready');
  process.stdin.on('end', () => connection.close());
  process.stdin.resume();
}

main();
