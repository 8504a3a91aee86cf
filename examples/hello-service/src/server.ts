import { hostname, release } from 'node:os';
import express from 'express';
import helmet from 'helmet';
import morgan from 'morgan';
import { exitCodeOf } from './exit-code.ts';

const port = Number(process.env.PORT ?? 8080);
const greeting = process.env.GREETING ?? 'Hello from inside a microVM';
let healthy = true;

const app = express();
app.use(helmet());
app.use(morgan('tiny'));

app.get('/', (_request, response) => {
  response.json({
    message: greeting,
    hostname: hostname(),
    kernel: release(),
    node: process.version,
    uptimeS: Math.round(process.uptime()),
  });
});

app.get('/healthz', (_request, response) => {
  response.status(healthy ? 200 : 500).json({ healthy });
});

/** From here on the health check fails: Kiln ends the workload with HEALTH_FAILED. */
app.all('/fail', (_request, response) => {
  healthy = false;
  response.json({ healthy });
});

/** Ends the process: Kiln ends the workload with SERVICE_EXITED. */
app.all('/exit', (request, response) => {
  const code = exitCodeOf(request.query.code);
  if (code === undefined) {
    response.status(400).json({ error: 'code must be a whole number from 0 to 255' });
    return;
  }
  response.on('finish', () => process.exit(code));
  response.json({ exiting: code });
});

const server = app.listen(port, () => console.log(`hello-service listens on ${port}`));

process.on('SIGTERM', () => {
  console.log('hello-service stops');
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
