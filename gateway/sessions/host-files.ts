/** Uses the files of a session's VM at the host that has it. */
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { z } from 'zod';
import {
  FILE_KIND_HEADER,
  FILE_TIME_HEADER,
  FILE_TYPE,
  vmFileListPath,
  vmFileListSchema,
  vmFilesPath,
  vmFileWrittenSchema,
  workspaceEntrySchema,
} from '../../contracts/host/vm-files.ts';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { isFailureCode, isKilnError, KilnError, messageOf } from '../../domain/failures.ts';
import type { FileListing, FileLook, OwnedVm, WrittenFile } from '../../ports/session-files.ts';

/** A VM of a session at its host, and when nobody waits for the answer any more. */
export interface FilesAt {
  readonly host: HostEntry;
  readonly vm: OwnedVm;
  readonly signal: AbortSignal;
}

/** @throws what the host refuses with; HOST_LOST where it gives no answer, or one that is not valid */
export interface HostFiles {
  look(at: FilesAt, path: string): Promise<FileLook>;
  read(at: FilesAt, path: string): Promise<FileLook & { readonly content: Readable }>;
  write(at: FilesAt, path: string, file: { readonly bytes: number; readonly content: Readable }): Promise<WrittenFile>;
  remove(at: FilesAt, path: string): Promise<void>;
  list(at: FilesAt, dir: string): Promise<FileListing>;
}

interface Asked {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly file?: { readonly bytes: number; readonly content: Readable };
}

/** @param options.timeoutMs until a host begins to answer; an upload has no such limit */
export function filesOverHttp(options: { readonly token: string; readonly timeoutMs: number }): HostFiles {
  const ask = (at: FilesAt, asked: Asked) => askHost(options, at, asked);
  const file = (at: FilesAt, path: string) => ({ path: vmFilesPath(at.vm.vmId), query: { path } });
  return {
    async look(at, path) {
      return lookOf(at, await ask(at, { method: 'HEAD', ...file(at, path) }));
    },
    async read(at, path) {
      const reply = await ask(at, { method: 'GET', ...file(at, path) });
      const look = lookOf(at, reply);
      const { body } = reply;
      if (body === null) return { ...look, content: Readable.from([]) };
      return { ...look, content: Readable.fromWeb(body as ReadableStream<Uint8Array>) };
    },
    async write(at, path, content) {
      const reply = await ask(at, { method: 'PUT', ...file(at, path), file: content });
      return parsed(at, vmFileWrittenSchema, await reply.json().catch(() => undefined));
    },
    async remove(at, path) {
      await ask(at, { method: 'DELETE', ...file(at, path) });
    },
    async list(at, dir) {
      const reply = await ask(at, { method: 'GET', path: vmFileListPath(at.vm.vmId), query: { dir } });
      return parsed(at, vmFileListSchema, await reply.json().catch(() => undefined));
    },
  };
}

async function askHost(
  { token, timeoutMs }: { readonly token: string; readonly timeoutMs: number },
  at: FilesAt,
  { method, path, query, file }: Asked,
): Promise<Response> {
  const url = new URL(path, at.host.url);
  const { workflowId, epoch } = at.vm;
  const all = { ...query, workflowId, epoch: String(epoch) };
  for (const [name, value] of Object.entries(all)) url.searchParams.set(name, value);
  const late = new AbortController();
  const timer = file === undefined ? setTimeout(() => late.abort(new Error('it took too long')), timeoutMs) : undefined;
  try {
    const reply = await fetch(url, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(file === undefined ? {} : bodyHeaders(file.bytes)) },
      ...(file === undefined ? {} : { body: Readable.toWeb(file.content), duplex: 'half' }),
      redirect: 'error',
      signal: AbortSignal.any([at.signal, late.signal]),
    });
    if (reply.ok) return reply;
    throw await refusalOf(reply, method);
  } catch (error) {
    // The content, too, may have failed: too long, or broken off.
    const found = error instanceof Error && isKilnError(error.cause) ? error.cause : error;
    throw isKilnError(found) ? found : noAnswer(at, found);
  } finally {
    clearTimeout(timer);
  }
}

function bodyHeaders(bytes: number): Record<string, string> {
  return { 'content-type': FILE_TYPE, 'content-length': String(bytes) };
}

const refusalSchema = z.object({ code: z.string(), detail: z.string() });
/** An answer to HEAD has no body that could say more. */
const HEAD_CODES: Readonly<Record<number, 'NOT_FOUND' | 'CONFLICT' | 'SPEC_INVALID'>> = {
  400: 'SPEC_INVALID',
  404: 'NOT_FOUND',
  409: 'CONFLICT',
};

/** @throws Error where the host did not refuse but fail */
async function refusalOf(reply: Response, method: string): Promise<KilnError> {
  const said = refusalSchema.safeParse(await reply.json().catch(() => undefined));
  if (said.success && isFailureCode(said.data.code)) return new KilnError(said.data.code, said.data.detail);
  const code = method === 'HEAD' ? HEAD_CODES[reply.status] : undefined;
  if (code !== undefined) return new KilnError(code, 'The workspace has no such file, or the VM does not run.');
  throw new Error(`status ${reply.status}`);
}

const lookSchema = workspaceEntrySchema.omit({ name: true });

function lookOf(at: FilesAt, { headers }: Response): FileLook {
  return parsed(at, lookSchema, {
    kind: headers.get(FILE_KIND_HEADER),
    bytes: Number(headers.get('content-length') ?? 0),
    modifiedAt: headers.get(FILE_TIME_HEADER),
  });
}

function parsed<T>(at: FilesAt, schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw noAnswer(at, new Error('its answer is not valid'));
}

function noAnswer({ host: { hostId } }: FilesAt, error: unknown): KilnError {
  const reason = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const message = `Host ${hostId} did not answer for the files of a session: ${messageOf(reason)}`;
  return new KilnError('HOST_LOST', message, { hostId }, error);
}
