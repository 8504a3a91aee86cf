/** A gateway in a process of its own, started like `kiln gateway run`, on existing servers. Needs no vitest. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { CLI_ENTRY } from '../../../config/checkout.ts';
import { inheritedEnvironment } from '../../../config/environment.ts';
import { readSetupRecord } from '../../../config/setup-record.ts';
import { defined } from '../../../domain/defined.ts';

export interface GatewayProcess {
  readonly url: string;
  readonly child: ChildProcess;
  /** Error lines of its log. */
  readonly errors: string[];
  close(): Promise<void>;
}

export interface GatewaySurroundings {
  readonly home: string;
  /** Token for the API. */
  readonly token: string;
  /** Token for the hosts' data planes. */
  readonly hostToken: string;
  readonly temporal: { readonly address: string; readonly namespace: string };
  readonly s3: {
    readonly endpoint: string;
    readonly bucket: string;
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly region?: string;
  };
}

/** Starts a gateway on a free port. @throws Error if it ends before it answers */
export async function spawnGateway({
  home,
  token,
  hostToken,
  temporal,
  s3,
}: GatewaySurroundings): Promise<GatewayProcess> {
  const child = spawn(readSetupRecord().nodePath, [CLI_ENTRY, 'gateway', 'run'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...inheritedEnvironment(),
      HOME: home,
      KILN_HOME: home,
      KILN_API_PORT: '0',
      KILN_API_TOKEN: token,
      KILN_HOST_TOKEN: hostToken,
      TEMPORAL_ADDRESS: temporal.address,
      TEMPORAL_NAMESPACE: temporal.namespace,
      KILN_S3_ENDPOINT: s3.endpoint,
      ...defined({ KILN_S3_REGION: s3.region }),
      KILN_S3_BUCKET: s3.bucket,
      KILN_S3_ACCESS_KEY: s3.accessKeyId,
      KILN_S3_SECRET_KEY: s3.secretAccessKey,
    },
  });
  const errors: string[] = [];
  const ended = once(child, 'exit');
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const entry: unknown = line.startsWith('{') ? JSON.parse(line) : {};
      const { level, url } = Object(entry);
      if (Number(level) >= 50) errors.push(line);
      if (typeof url === 'string' && Number(level) === 30) resolve(url);
    });
    child.once('exit', (code) => reject(new Error(`the gateway ended with ${code}: ${errors.join('\n')}`)));
  });
  return {
    url,
    child,
    errors,
    close: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
