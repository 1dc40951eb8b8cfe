// Publishes an event as amqplib does by itself, which is with no property at all:
// node publish.js URL EXCHANGE KEY JSON [HEADERS]
'use strict';
const amqp = require('amqplib');

const [url, exchange, key, body, headers] = process.argv.slice(2);

async function main() {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  const options = headers === undefined ? {} : { headers: JSON.parse(headers) };
  channel.publish(exchange, key, Buffer.from(body), options);
  await channel.waitForConfirms();
  await connection.close();
}

main();
