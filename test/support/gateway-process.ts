/** A gateway as a process of its own, as `kiln gateway run` starts it, on given servers. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { inject } from 'vitest';
import { CLI_ENTRY } from '../../config/checkout.ts';
import { inheritedEnvironment } from '../../config/environment.ts';
import { readSetupRecord } from '../../config/setup-record.ts';

export interface GatewayProcess {
  readonly url: string;
  readonly child: ChildProcess;
  /** Lines of its log that are errors. */
  readonly errors: string[];
  close(): Promise<void>;
}

/** Starts a gateway on a free port. */
export async function startGatewayProcess(options: {
  readonly namespace: string;
  readonly bucket: string;
  readonly token: string;
  readonly home: string;
}): Promise<GatewayProcess> {
  const s3 = inject('s3');
  const child = spawn(readSetupRecord().nodePath, [CLI_ENTRY, 'gateway', 'run'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...inheritedEnvironment(),
      HOME: options.home,
      KILN_HOME: options.home,
      KILN_API_PORT: '0',
      KILN_API_TOKEN: options.token,
      KILN_HOST_TOKEN: 'a-token-for-tests',
      TEMPORAL_ADDRESS: inject('temporalAddress'),
      TEMPORAL_NAMESPACE: options.namespace,
      KILN_S3_ENDPOINT: s3.endpoint,
      KILN_S3_REGION: s3.region,
      KILN_S3_BUCKET: options.bucket,
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
