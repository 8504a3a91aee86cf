/** Answers with the content of a file, or a part of it. */
import { once } from 'node:events';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { BYTES_TYPE } from '../../contracts/api/routes/route.ts';
import { FILE_KIND_HEADER, FILE_TIME_HEADER } from '../../contracts/host/vm-files.ts';
import { defined } from '../../domain/defined.ts';
import type { FileLook } from '../../ports/session-files.ts';
import type { GatewayLogger } from '../problem-replies.ts';
import { type ByteRange, isRangeOf, rangeOf } from './byte-range.ts';

export interface FileReply extends FileLook {
  /** The turn that it is of; absent where it comes from a VM. */
  readonly turn?: number;
  /** Strong; absent where it comes from a VM. */
  readonly etag?: string;
}

export interface SendOptions {
  readonly log: Pick<GatewayLogger, 'warn'>;
  /** A reader who takes nothing for so long is disconnected, ms. */
  readonly slowReaderMs: number;
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
  {
    look,
    open,
    ...options
  }: SendOptions & {
    readonly look: FileReply;
    readonly open: (range: ByteRange | undefined) => Readable;
  },
): Promise<FastifyReply> {
  const isWanted = isRangeOf(request.headers['if-range'], look.etag);
  const range = rangeOf(isWanted ? request.headers.range : undefined, look.bytes);
  const content = open(range);
  if (range === undefined) return sendContent(described(reply, look, look.bytes), content, options);
  const { from, to } = range;
  void reply.code(206).header('content-range', `bytes ${from}-${to - 1}/${look.bytes}`);
  return sendContent(described(reply, look, to - from), content, options);
}

/** @returns when the last byte is sent, or nobody reads any more */
export async function sendContent(
  reply: FastifyReply,
  content: Readable,
  { log, slowReaderMs }: SendOptions,
): Promise<FastifyReply> {
  const { raw, request } = reply;
  content.once('error', (error) => {
    // What fails before is answered with a problem; what fails after the reader has left is of no interest.
    if (!raw.headersSent || raw.destroyed) return;
    log.warn({ method: request.method, url: request.url, err: error }, 'an answer broke off');
  });
  raw.setTimeout(slowReaderMs, () => {
    // Without bytes that wait for the reader, it is the content that is slow.
    if (raw.writableLength > 0) raw.destroy();
  });
  void reply.send(content);
  if (!raw.closed) await once(raw, 'close');
  return reply;
}

function described(reply: FastifyReply, { kind, modifiedAt, turn, etag }: FileReply, bytes: number): FastifyReply {
  return reply.type(BYTES_TYPE).headers({
    'content-length': String(bytes),
    'accept-ranges': 'bytes',
    'x-content-type-options': 'nosniff',
    [FILE_KIND_HEADER]: kind,
    [FILE_TIME_HEADER]: modifiedAt,
    ...defined({ [TURN_HEADER]: turn === undefined ? undefined : String(turn), etag }),
  });
}
