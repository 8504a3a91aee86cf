/** A gateway in a process of its own, on the servers of the run. */
import { inject } from 'vitest';
import { type GatewayProcess, spawnGateway } from './spawn-gateway.ts';

export type { GatewayProcess } from './spawn-gateway.ts';

/** Starts a gateway on a free port. */
export function startGatewayProcess(options: {
  readonly namespace: string;
  readonly bucket: string;
  readonly token: string;
  readonly home: string;
}): Promise<GatewayProcess> {
  const { namespace, bucket, token, home } = options;
  return spawnGateway({
    home,
    token,
    hostToken: 'a-token-for-tests',
    temporal: { address: inject('temporalAddress'), namespace },
    s3: { ...inject('s3'), bucket },
  });
}
