/** Answers with the content of a file, or a part of it. */
import { once } from 'node:events';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { BYTES_TYPE } from '../../contracts/api/routes/route.ts';
import { FILE_KIND_HEADER, FILE_TIME_HEADER } from '../../contracts/host/vm-files.ts';
import type { FileLook } from '../../ports/session-files.ts';
import { type ByteRange, rangeOf } from './byte-range.ts';

export interface FileReply extends FileLook {
  /** The turn that it is of; absent where it comes from a VM. */
  readonly turn?: number;
}

/** Which turn a file is of. */
const TURN_HEADER = 'x-kiln-turn';

/** Answers HEAD. */
export function sendLook(reply: FastifyReply, look: FileReply): FastifyReply {
  return described(reply, look, look.bytes).send(Readable.from([]));
}

/** @param open called once. @returns when the last byte is sent, or nobody reads any more */
export async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  look: FileReply,
  open: (range: ByteRange | undefined) => Readable,
): Promise<FastifyReply> {
  const range = rangeOf(request.headers.range, look.bytes);
  const content = open(range);
  if (range === undefined) return sendContent(described(reply, look, look.bytes), content);
  const { from, to } = range;
  void reply.code(206).header('content-range', `bytes ${from}-${to - 1}/${look.bytes}`);
  return sendContent(described(reply, look, to - from), content);
}

/** @returns when the last byte is sent, or nobody reads any more */
export async function sendContent(reply: FastifyReply, content: Readable): Promise<FastifyReply> {
  void reply.send(content);
  if (!reply.raw.closed) await once(reply.raw, 'close');
  return reply;
}

function described(reply: FastifyReply, { kind, modifiedAt, turn }: FileReply, bytes: number): FastifyReply {
  return reply.type(BYTES_TYPE).headers({
    'content-length': String(bytes),
    'accept-ranges': 'bytes',
    'x-content-type-options': 'nosniff',
    [FILE_KIND_HEADER]: kind,
    [FILE_TIME_HEADER]: modifiedAt,
    ...(turn === undefined ? {} : { [TURN_HEADER]: String(turn) }),
  });
}
