/** Answers with files of saved workspaces. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import {
  type LookLimits,
  lookAt,
  openSaved,
  type SavedFile,
  type SavedLook,
} from '../../store/sessions/saves/saved-files.ts';
import type { SavedWorkspace } from '../../store/sessions/saves/saved-workspace.ts';
import { readerSignal } from '../reader-signal.ts';
import { type SendOptions, sendFile, sendLook } from './file-replies.ts';
import type { Transfers } from './transfers.ts';

export interface SavedReplyOptions extends SendOptions {
  readonly transfers: Pick<Transfers, 'counted' | 'looked'>;
  /** Pieces of a manifest that one look may fetch from the store. */
  readonly maxReads: number;
  /** Aborted when the gateway ends. */
  readonly ending: AbortSignal;
}

/** Looks into a workspace of the store. @returns undefined where it is not there but in a VM */
export type LookInto = <T>(
  signal: AbortSignal,
  look: (workspace: SavedWorkspace) => Promise<T>,
) => Promise<T | undefined>;

/** A look that ends with its caller. @throws QUEUE_FULL; what `work` throws */
export function looked<T>(
  { transfers, maxReads, ending }: SavedReplyOptions,
  reply: FastifyReply,
  work: (limits: LookLimits) => Promise<T>,
): Promise<T> {
  return transfers.looked(() => work({ signal: readerSignal(reply, ending), maxReads }));
}

/**
 * Answers GET and HEAD of a file.
 * @returns whether it is answered; false where a VM has to. (A reply itself is a promise: awaited, it is undefined.)
 * @throws NOT_FOUND, SPEC_INVALID, INSPECTION_LIMIT, QUEUE_FULL, SESSION_CORRUPT, STORE_UNAVAILABLE; what `into` throws
 */
export async function sendSaved(
  options: SavedReplyOptions,
  { into, path }: { readonly into: LookInto; readonly path: string },
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<boolean> {
  if (request.method === 'HEAD') {
    const look = await looked(options, reply, (limits) =>
      into(
        limits.signal,
        async (saved): Promise<SavedLook & { readonly turn: number }> => ({
          ...(await lookAt(saved, path, limits)),
          turn: saved.tree.turn,
        }),
      ),
    );
    if (look !== undefined) sendLook(reply, look);
    return look !== undefined;
  }
  const signal = readerSignal(reply, options.ending);
  return options.transfers.counted(async () => {
    const limits = { signal, maxReads: options.maxReads };
    const look = await into(signal, (saved): Promise<SavedFile> => openSaved(saved, path, limits));
    if (look === undefined) return false;
    const all = { from: 0, to: look.bytes };
    await sendFile(request, reply, { ...options, look, open: (range) => look.read(range ?? all, signal) });
    return true;
  });
}
