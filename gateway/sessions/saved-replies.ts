/** Answers with files of saved workspaces. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { lookAt, openSaved } from '../../store/sessions/saves/saved-files.ts';
import type { SavedWorkspace } from '../../store/sessions/saves/saved-workspace.ts';
import { sendFile, sendLook } from './file-replies.ts';
import type { Transfers } from './transfers.ts';

export interface SavedFileAsked {
  readonly saved: SavedWorkspace;
  readonly path: string;
  readonly transfers: Pick<Transfers, 'counted'>;
  readonly ending: AbortSignal;
}

/** Answers GET and HEAD. @throws NOT_FOUND, SPEC_INVALID, QUEUE_FULL, SESSION_CORRUPT, STORE_UNAVAILABLE */
export async function sendSaved(
  { saved, path, transfers, ending }: SavedFileAsked,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { turn } = saved.tree;
  if (request.method === 'HEAD') return sendLook(reply, { ...(await lookAt(saved, path)), turn });
  const { read, ...look } = await openSaved(saved, path);
  const all = { from: 0, to: look.bytes };
  return transfers.counted(() => sendFile(request, reply, { ...look, turn }, (range) => read(range ?? all, ending)));
}
