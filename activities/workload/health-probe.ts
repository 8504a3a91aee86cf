import { request } from 'node:http';
import type { Duplex } from 'node:stream';
import { abortable } from '../../concurrency/deadline.ts';
import { messageOf } from '../../domain/failures.ts';
import type { HealthCheck } from '../../domain/workload/workload.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';

export type ProbeResult = { readonly healthy: true } | { readonly healthy: false; readonly reason: string };

/** Asks the service once, over its guest's loopback: TCP connect, or an HTTP GET that must answer below 400. */
export async function probeHealth(
  agent: Pick<AgentChannel, 'connectTcp'>,
  port: number,
  check: HealthCheck,
): Promise<ProbeResult> {
  const deadline = AbortSignal.timeout(check.timeoutMs);
  try {
    const socket = await connected(agent.connectTcp(port), deadline);
    if (check.path === undefined) {
      socket.destroy();
      return { healthy: true };
    }
    const status = await getStatus(socket, check.path, deadline);
    if (status >= 200 && status < 400) return { healthy: true };
    return { healthy: false, reason: `GET ${check.path} answered ${status}` };
  } catch (error) {
    if (deadline.aborted) return { healthy: false, reason: `no answer on port ${port} within ${check.timeoutMs} ms` };
    return { healthy: false, reason: `port ${port}: ${messageOf(error)}` };
  }
}

function getStatus(socket: Duplex, path: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const options = {
      path,
      method: 'GET',
      headers: { host: 'localhost', connection: 'close', 'user-agent': 'kiln-health' },
      createConnection: () => socket,
      maxHeaderSize: 16_384,
      signal,
    };
    const call = request(options, (response) => {
      // Only the head matters; an endless body must not be read.
      response.destroy();
      socket.destroy();
      resolve(response.statusCode ?? 0);
    });
    // An upgrade that was not requested: no normal answer follows it.
    call.on('upgrade', (response) => {
      socket.destroy();
      resolve(response.statusCode ?? 0);
    });
    call.on('error', (error) => {
      socket.destroy();
      reject(error);
    });
    call.end();
  });
}

/** A connection that arrives after the deadline is closed, not leaked. */
async function connected(opening: Promise<Duplex>, signal: AbortSignal): Promise<Duplex> {
  opening.then(
    (socket) => {
      // Late errors of a probe's connection do not matter.
      socket.on('error', () => undefined);
      if (signal.aborted) socket.destroy();
    },
    () => undefined,
  );
  return abortable(opening, signal);
}
