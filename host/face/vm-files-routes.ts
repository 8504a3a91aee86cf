import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { boundedBody, drainBody } from '../../concurrency/incoming-body.ts';
import {
  FILE_KIND_HEADER,
  FILE_TIME_HEADER,
  FILE_TYPE,
  vmFileListPath,
  vmFileListQuerySchema,
  vmFileQuerySchema,
  vmFilesPath,
  vmParamsSchema,
} from '../../contracts/host/vm-files.ts';
import { KilnError } from '../../domain/failures.ts';
import { MAX_PUT_BYTES, putSizeOf } from '../../domain/session/workspace-path.ts';
import type { FileLook, SessionFiles } from '../../ports/session-files.ts';

/** How long the rest of a refused body is read, ms. */
const DRAIN_MS = 1_000;

/** Adds the routes by which gateways use the files in the workspace of a session. */
export function addVmFilesRoutes(server: FastifyInstance, files: SessionFiles): void {
  // Read by the handler as it arrives: the limit of all other bodies does not count.
  server.addContentTypeParser(FILE_TYPE, (_request, payload, done) => done(null, payload));
  const url = vmFilesPath(':vmId');
  server.head(url, async (request, reply) => {
    const { vm, path } = fileOf(request);
    return described(reply, await files.look(vm, path)).send();
  });
  server.get(url, { exposeHeadRoute: false }, async (request, reply) => {
    const { vm, path } = fileOf(request);
    const { content, ...look } = await files.read(vm, path);
    return described(reply, look).type(FILE_TYPE).send(content);
  });
  server.put(url, (request) => put(files, request));
  server.delete(url, async (request, reply) => {
    const { vm, path } = fileOf(request);
    await files.remove(vm, path);
    return reply.code(204).send();
  });
  server.get(vmFileListPath(':vmId'), async (request) => {
    const { dir, ...owner } = parsed(vmFileListQuerySchema, request.query);
    return files.list({ ...parsed(vmParamsSchema, request.params), ...owner }, dir);
  });
}

async function put(files: SessionFiles, request: FastifyRequest): Promise<{ created: boolean }> {
  const { raw } = request;
  try {
    const { vm, path } = fileOf(request);
    const bytes = putSizeOf(request.headers['content-length']);
    const content = boundedBody(raw, bytes, { tooLarge: brokenOff, brokenOff });
    return await files.write(vm, path, { bytes, content });
  } catch (error) {
    await drainBody(raw, { maxBytes: MAX_PUT_BYTES, drainMs: DRAIN_MS });
    throw error;
  }
}

function described(reply: FastifyReply, { kind, bytes, modifiedAt }: FileLook): FastifyReply {
  const length = kind === 'file' ? { 'content-length': String(bytes) } : {};
  return reply.headers({ ...length, [FILE_KIND_HEADER]: kind, [FILE_TIME_HEADER]: modifiedAt });
}

function fileOf({ params, query }: FastifyRequest) {
  const { path, ...owner } = parsed(vmFileQuerySchema, query);
  return { vm: { ...parsed(vmParamsSchema, params), ...owner }, path };
}

/** @throws SPEC_INVALID */
function parsed<T>(schema: z.ZodType<T>, given: unknown): T {
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new KilnError('SPEC_INVALID', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not understood'}`);
}

function brokenOff(): KilnError {
  return new KilnError('SPEC_INVALID', 'The upload broke off before its end; send it again.');
}
