// Opens a connection and a channel, and closes the connection with a callback, as programs written
// for callbacks do; prints how often that was called back, and with what: node close.js URL TIMES.
'use strict';
const amqp = require('amqplib/callback_api');

const [url, times] = process.argv.slice(2);
const seen = { closed: 0, errors: [] };

function once(left) {
  if (left === 0) {
    process.stdout.write(JSON.stringify(seen));
    return;
  }
  amqp.connect(url, (failure, connection) => {
    if (failure) throw failure;
    connection.on('error', (error) => seen.errors.push(error.message));
    connection.createChannel((refused, channel) => {
      if (refused) throw refused;
      channel.assertQueue('', { exclusive: true }, () => {
        connection.close((error) => {
          if (error) seen.errors.push(error.message);
          seen.closed += 1;
          once(left - 1);
        });
      });
    });
  });
}

once(Number(times));
