// requests_node.js with what amqpjobs does as well: confirms, returns and timeouts.
'use strict';
process.env.CONFIRMS = '1';
require('./requests_node');
