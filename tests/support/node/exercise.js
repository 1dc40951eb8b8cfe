// What amqplib of Node.js does on a broker: declare, publish with confirms, consume, ack, nack, get,
// an error and its end. Prints what it saw as JSON. Argument: the broker's URL.
'use strict';
const amqplib = require('amqplib');

function once(channel, queue) {
  return new Promise((resolve, reject) => {
    channel.consume(queue, resolve, { consumerTag: 'c' }).catch(reject);
  });
}

async function main(url) {
  const seen = {};
  const connection = await amqplib.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.prefetch(1);
  await channel.assertExchange('x', 'topic');
  const declared = await channel.assertQueue('q', { durable: true, arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 10 } });
  seen.declared = declared;
  await channel.bindQueue('q', 'x', 'a.*');

  const returned = new Promise((resolve) => channel.on('return', resolve));
  channel.publish('', 'nowhere', Buffer.from('lost'), { mandatory: true });
  seen.returned = (await returned).fields.replyText;

  for (const text of ['one', 'two']) {
    channel.publish('x', 'a.b', Buffer.from(text), { persistent: true, headers: { n: 1, list: ['ü'] } });
  }
  await channel.waitForConfirms();

  const first = await once(channel, 'q');
  seen.first = [first.content.toString(), first.fields.routingKey, first.properties.headers];
  await channel.cancel('c');
  channel.nack(first, false, true);
  const again = await once(channel, 'q');
  seen.again = [again.content.toString(), again.fields.redelivered];
  await channel.cancel('c');
  channel.ack(again);

  let second = false;
  while (!second) second = await channel.get('q', {});
  seen.second = [second.content.toString(), second.fields.messageCount];
  channel.ack(second);
  seen.empty = await channel.get('q', {});

  const failing = await connection.createChannel();
  failing.on('error', (error) => { seen.error = [error.code, error.message.includes('NOT_FOUND')]; });
  await failing.checkQueue('nowhere').catch(() => {});
  seen.deleted = await channel.deleteQueue('q');
  await channel.close();
  await connection.close();
  process.stdout.write(JSON.stringify(seen));
}

main(process.argv[2]).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
