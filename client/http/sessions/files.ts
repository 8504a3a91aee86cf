/** Files in the workspaces of sessions, over HTTP. */
import type { z } from 'zod';
import { BYTES_TYPE } from '../../../contracts/api/routes/route.ts';
import { ROUTES } from '../../../contracts/api/routes/route-table.ts';
import { writtenFileSchema } from '../../../contracts/api/session-files.ts';
import { defined } from '../../../domain/defined.ts';
import { call, type HttpClientOptions, problemOf, type RequestParts, send } from '../http-calls.ts';
import type { CallOptions } from '../route-methods.ts';

export interface SessionFilePlace {
  readonly thread: string;
  /** Below /workspace. */
  readonly path: string;
  /** Default `default`. */
  readonly project?: string;
}

export interface FileMethods {
  /** The content of a file, as it arrives. @throws NOT_FOUND; SESSION_CLOSED, SESSION_EXPIRED; API_UNAVAILABLE */
  getSessionFile(place: SessionFilePlace, options?: CallOptions): Promise<ReadableStream<Uint8Array>>;
  /** Writes a whole file, at most 64 MiB. @throws PAYLOAD_TOO_LARGE, CONFLICT, as `getSessionFile` */
  putSessionFile(
    place: SessionFilePlace,
    bytes: Blob,
    options?: CallOptions,
  ): Promise<z.output<typeof writtenFileSchema>>;
}

/** @returns the methods. No request is made until one is called. */
export function fileMethods(http: HttpClientOptions & { readonly uploadTimeoutMs: number }): FileMethods {
  return {
    async getSessionFile(place, { signal } = {}) {
      const reply = await send(http, ROUTES.getSessionFile, partsOf(place), { signal });
      if (reply.status !== 200) throw await problemOf(http, reply);
      return reply.body ?? new Blob([]).stream();
    },
    async putSessionFile(place, bytes, { signal } = {}) {
      const parts = { ...partsOf(place), upload: { type: BYTES_TYPE, bytes } };
      const patient = { ...http, timeoutMs: http.uploadTimeoutMs };
      return writtenFileSchema.parse(await call(patient, ROUTES.putSessionFile, parts, signal));
    },
  };
}

function partsOf({ thread, path, project }: SessionFilePlace): RequestParts {
  return { params: { thread, path }, query: defined({ project }) };
}
