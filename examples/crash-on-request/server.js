// Healthy until GET /crash: then an error that nobody catches ends the process with code 7.
import { createServer } from 'node:http';

process.on('uncaughtException', (error) => {
  console.error(error.stack);
  process.exit(7);
});

createServer((request, response) => {
  if (request.url !== '/crash') return response.end('ok\n');
  response.end('as you wish\n', () => {
    throw new Error('crashed on request');
  });
}).listen(Number(process.env.PORT), () => console.log('listening'));
