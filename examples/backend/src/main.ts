/** Starts the backend: connects to Kiln as the environment says, serves orders, closes on SIGINT or SIGTERM. */
import { connectKiln, isKilnError } from 'kiln-client';
import { createOrders } from './orders.ts';
import { createOrderServer } from './server.ts';

async function main(): Promise<void> {
  const kiln = await connectKiln({
    temporal: { address: given('TEMPORAL_ADDRESS'), namespace: process.env['TEMPORAL_NAMESPACE'] ?? 'default' },
    store: {
      endpoint: given('KILN_S3_ENDPOINT'),
      bucket: given('KILN_S3_BUCKET'),
      ...(process.env['KILN_S3_PREFIX'] ? { prefix: process.env['KILN_S3_PREFIX'] } : {}),
      credentials: { accessKeyId: given('KILN_S3_ACCESS_KEY'), secretAccessKey: given('KILN_S3_SECRET_KEY') },
    },
  });
  const server = createOrderServer(createOrders(kiln.workloads));
  server.listen(Number(process.env['PORT'] ?? 3000), '127.0.0.1', () => {
    console.log(JSON.stringify({ listening: server.address() }));
  });
  const end = (): void => {
    server.close(() => void kiln.close());
    server.closeAllConnections();
  };
  process.once('SIGINT', end).once('SIGTERM', end);
}

function given(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`Set ${name}.`);
  return value;
}

main().catch((error: unknown) => {
  // These errors say by code and message what is missing or unreachable; any other error is a bug of this program.
  console.error(isKilnError(error) ? `${error.code}: ${error.message}` : error);
  process.exitCode = 1;
});
