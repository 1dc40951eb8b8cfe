// The payload of the Node.js contenders: as in protocol.py, and checked by hand.
'use strict';
const PAYLOAD_BYTES = 90;

function order(number) {
  const made = { order_id: number, customer: '', amount: 12.5, items: ['a', 'b', 'c'] };
  made.customer = 'c'.repeat(PAYLOAD_BYTES - JSON.stringify(made).length);
  return made;
}

function validate(body) {
  const value = JSON.parse(body);
  if (
    !Number.isInteger(value.order_id) ||
    typeof value.customer !== 'string' ||
    typeof value.amount !== 'number' ||
    !Array.isArray(value.items) ||
    !value.items.every((item) => typeof item === 'string')
  ) {
    throw new Error('invalid order');
  }
  return value;
}

module.exports = { order, validate };
