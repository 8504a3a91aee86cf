/** Reads and follows the output of runs at the hosts that write it. */

import {
  type OutputPiece,
  type RunOutputReply,
  runOutputPath,
  runOutputReplySchema,
} from '../../contracts/host/data-plane.ts';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { KilnError, messageOf } from '../../domain/failures.ts';
import type { ExecOutput } from '../../ports/guest-agent.ts';

/** @returns output of the store as hosts send it */
export function outputPieceOf(piece: ExecOutput): OutputPiece {
  if (piece.kind === 'gap') return piece;
  return { kind: piece.stream, offset: piece.offset, base64: piece.data.toString('base64') };
}

export interface RunAtHost {
  readonly vmId: string;
  readonly turn: number;
}

/**
 * Resolves when there is output behind `after`, when the run has ended, or when the time is over.
 * @throws HOST_LOST where the answer fails or is invalid
 */
export type FollowRunOutput = (
  host: HostEntry,
  run: RunAtHost,
  options: { readonly after: number; readonly waitMs: number; readonly signal: AbortSignal },
) => Promise<RunOutputReply>;

/** @param options.timeoutMs for the whole answer, in addition to the time that the host is asked to wait */
export function runOutputOverHttp(options: { readonly token: string; readonly timeoutMs: number }): FollowRunOutput {
  return async (host, { vmId, turn }, { after, waitMs, signal }) => {
    const url = new URL(runOutputPath(vmId, turn), host.url);
    url.searchParams.set('after', String(after));
    url.searchParams.set('waitMs', String(waitMs));
    try {
      const reply = await fetch(url, {
        headers: { authorization: `Bearer ${options.token}` },
        redirect: 'error',
        signal: AbortSignal.any([signal, AbortSignal.timeout(waitMs + options.timeoutMs)]),
      });
      if (reply.status === 200) return runOutputReplySchema.parse(await reply.json());
      await reply.body?.cancel();
      throw new Error(`status ${reply.status}`);
    } catch (error) {
      const message = `Host ${host.hostId} did not answer for the output of a run: ${messageOf(error)}`;
      throw new KilnError('HOST_LOST', message, { hostId: host.hostId }, error);
    }
  };
}
