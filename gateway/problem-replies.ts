/** Errors of the gateway as problem documents. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { PROBLEM_TYPE, type Problem, problem, problemOf } from '../contracts/api/problem.ts';
import { isKilnError, KilnError } from '../domain/failures.ts';
import { ReaderLeft } from './reader-signal.ts';

/** A request that the schemas of its route refuse. */
export class InvalidRequest extends KilnError {
  readonly errors: NonNullable<Problem['errors']>;

  constructor(errors: NonNullable<Problem['errors']>) {
    super(
      'SPEC_INVALID',
      `The request is not valid: ${errors.map(({ path, message, ...at }) => `${at.in}${path === '' ? '' : ` ${path}`} ${message}`).join('; ')}`,
    );
    this.errors = errors;
  }
}

/** A body in a format that this API does not read. */
export class UnsupportedBody extends KilnError {
  constructor(message: string) {
    super('UNSUPPORTED', message);
  }
}

/** A range that has no byte of the content. */
export class UnsatisfiableRange extends KilnError {
  readonly bytes: number;

  /** @param bytes of the whole content */
  constructor(bytes: number) {
    super('SPEC_INVALID', `The file has ${bytes} bytes; the range has none of them.`);
    this.bytes = bytes;
  }
}

/** What the gateway needs of a logger; pino has it. */
export interface GatewayLogger {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** @returns the problem to send for an error; for an unknown error it reveals nothing internal. */
export function problemOfError(error: unknown): Problem {
  if (error instanceof InvalidRequest) return { ...problemOf(error), errors: error.errors };
  if (error instanceof UnsupportedBody) return problem(error.code, error.message, 415);
  if (error instanceof UnsatisfiableRange) return problem(error.code, error.message, 416);
  if (isKilnError(error)) return problemOf(error);
  const status = frameworkStatus(error);
  if (status === undefined) return problem('INTERNAL', 'The gateway failed; its log says why.');
  if (status === 413) return problem('PAYLOAD_TOO_LARGE', 'The body is larger than this API takes.');
  if (status === 415) return problem('UNSUPPORTED', 'Send the body as application/json.', 415);
  return problem('SPEC_INVALID', error instanceof Error ? error.message : 'The request is not valid.', status);
}

/** Answers with a problem document. */
export function sendProblem(reply: FastifyReply, found: Problem): FastifyReply {
  if (found.status === 401) void reply.header('www-authenticate', 'Bearer');
  // The rest of a body that is too large is read and dropped: on a cut connection this answer would be lost.
  if (found.status === 413) void reply.removeHeader('connection');
  if (found.status === 503) void reply.header('retry-after', '1');
  return reply
    .code(found.status)
    .type(PROBLEM_TYPE)
    .send(Buffer.from(JSON.stringify(found)));
}

/** @returns the handler of everything that a route throws. */
export function errorHandler(log: GatewayLogger) {
  return (error: FastifyError | Error, request: FastifyRequest, reply: FastifyReply): void => {
    forgetContent(reply);
    const found = problemOfError(error);
    // What is asked for is not there yet: nothing has failed.
    if (found.status >= 500 && found.code !== 'UNSUPPORTED' && !(error instanceof ReaderLeft)) {
      const facts = { code: found.code, method: request.method, url: request.url, err: error };
      // The rest of a body that is too large is read and dropped: on a cut connection this answer would be lost.
      if (found.status === 413) void reply.removeHeader('connection');
      if (found.status === 503) log.warn(facts, 'a part of Kiln does not answer');
      else log.error(facts, 'a request failed');
    }
    if (error instanceof UnsatisfiableRange) void reply.header('content-range', `bytes */${error.bytes}`);
    void sendProblem(reply, found);
  };
}

const OF_CONTENTS: readonly string[] = ['accept-ranges', 'content-disposition', 'content-range', 'etag'];

/** A problem is no part of the content that was about to be sent. */
function forgetContent(reply: FastifyReply): void {
  for (const name of [...Object.keys(reply.getHeaders()), ...reply.raw.getHeaderNames()]) {
    if (!name.startsWith('x-kiln-') && !OF_CONTENTS.includes(name)) continue;
    void reply.removeHeader(name);
    // Those of a stream that failed before its first byte are there already.
    reply.raw.removeHeader(name);
  }
}

/** The framework's own refusals (bad URL, bad media type, body too large) carry a 4xx status. */
function frameworkStatus(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return undefined;
  const { statusCode } = error;
  return typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500 ? statusCode : undefined;
}
