/** Typed client of the REST API, made from the route table. Does not use Temporal. */
import { ROUTES } from '../../contracts/api/routes/route-table.ts';
import { GZIP_TYPE, TAR_TYPE, type UploadedSource, uploadedSourceSchema } from '../../contracts/api/source.ts';
import { defined } from '../../domain/defined.ts';
import { call, type HttpClientOptions } from './http-calls.ts';
import { type LogEvent, type LogStreamOptions, logEvents } from './log-events.ts';
import { type CallOptions, type RouteMethods, routeMethods } from './route-methods.ts';
import { type FileMethods, fileMethods } from './sessions/files.ts';
import { type RunOutputEvent, type RunOutputOptions, runOutputEvents } from './sessions/run-output.ts';
import { createSession, type Session, type SessionOptions } from './sessions/session.ts';

export type { CallOptions } from './route-methods.ts';

export interface KilnClientOptions {
  /** Base URL of the gateway, e.g. `http://127.0.0.1:4800`. */
  readonly apiUrl: string;
  readonly token: string;
  readonly timeoutMs?: number;
  /** For a whole upload. */
  readonly uploadTimeoutMs?: number;
  readonly maxBytes?: number;
  readonly fetch?: typeof fetch;
}

export interface UploadOptions extends CallOptions {
  /** Digest (hex) that the tar must have; refused where it differs. */
  readonly sha256?: string;
  /** Whether the bytes are compressed; `sha256` is still the digest of the tar itself. */
  readonly gzip?: boolean;
}

/**
 * One method for each route that answers with JSON, by its name in the table; it resolves to the body.
 * Every method throws KilnError: the code is that of the problem document, or API_UNAVAILABLE where no answer came.
 */
export type KilnClient = RouteMethods &
  FileMethods & {
    /** The log of a workload from the first line (or from `after`) on, as it is written; reconnects when needed. */
    streamWorkloadLogs(id: string, options?: LogStreamOptions): AsyncGenerator<LogEvent, void>;
    /** Stores the sources of a service; the same tar is stored once. A failed stream cannot be sent again. */
    uploadSource(tar: Blob | ReadableStream<Uint8Array>, options?: UploadOptions): Promise<UploadedSource>;
    /** The output of a run as pieces of bytes, from the first one (or from `after`) on; reconnects when needed. */
    streamRunOutput(
      run: { readonly thread: string; readonly id: string },
      options?: RunOutputOptions,
    ): AsyncGenerator<RunOutputEvent, void>;
    /**
     * The session of a thread. Nothing is called yet: its first run begins it where there is none.
     * @param options settings (`image`, `resources`, `egress`, `tiers`) count only where the session is new; one that
     *   exists keeps its own, and that it has others is no error
     */
    session(thread: string, options?: SessionOptions): Session;
  };

const DEFAULTS = { timeoutMs: 60_000, uploadTimeoutMs: 600_000, maxBytes: 32 * 1024 * 1024 };

/** @returns a client. No request is made until a method is called. */
export function createKilnClient(options: KilnClientOptions): KilnClient {
  const http: HttpClientOptions & { readonly uploadTimeoutMs: number } = {
    ...DEFAULTS,
    fetch: globalThis.fetch,
    ...options,
  };
  const client: KilnClient = {
    ...routeMethods(http),
    ...fileMethods(http),
    streamWorkloadLogs: (id, stream = {}) => logEvents(http, id, stream),
    uploadSource: async (bytes, { sha256, gzip, signal } = {}) => {
      const upload = { type: gzip === true ? GZIP_TYPE : TAR_TYPE, bytes };
      const query = defined({ sha256 });
      const patient = { ...http, timeoutMs: http.uploadTimeoutMs };
      return uploadedSourceSchema.parse(await call(patient, ROUTES.uploadSource, { query, upload }, signal));
    },
    streamRunOutput: (run, stream = {}) => runOutputEvents(http, run, stream),
    session: (thread, session = {}) => createSession(client, thread, session),
  };
  return client;
}
