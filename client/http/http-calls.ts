/** One request of the REST API: URL, token, limits, problem documents. */

import { PROBLEM_TYPE, problemSchema } from '../../contracts/api/problem.ts';
import { PATH_PARAMETER, type Route } from '../../contracts/api/routes/route.ts';
import { withoutEndSlashes } from '../../domain/base-url.ts';
import { defined } from '../../domain/defined.ts';
import { KilnError, messageOf } from '../../domain/failures.ts';
import { jsonOrUndefined } from '../../domain/json-or-undefined.ts';

export interface HttpClientOptions {
  /** Base URL of the gateway. */
  readonly apiUrl: string;
  readonly token: string;
  /** For a whole answer. Longer than the longest wait of a stop. */
  readonly timeoutMs: number;
  /** Longest answer that is read. */
  readonly maxBytes: number;
  readonly fetch: typeof fetch;
}

export interface Upload {
  readonly type: string;
  readonly bytes: Blob | ReadableStream<Uint8Array>;
}

export interface RequestParts {
  readonly params?: Readonly<Record<string, unknown>>;
  readonly query?: Readonly<Record<string, unknown>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent unchanged, instead of `body`. */
  readonly upload?: Upload;
}

/**
 * @param headers besides the token's
 * @returns the answer, whatever its status
 * @throws API_UNAVAILABLE where there is no answer; the signal's reason where it was aborted
 */
export async function send(
  options: HttpClientOptions,
  route: Route,
  parts: RequestParts,
  { signal, headers = {} }: { signal: AbortSignal | undefined; headers?: Readonly<Record<string, string>> },
): Promise<Response> {
  const { type, content } = contentOf(parts);
  try {
    return await options.fetch(urlOf(options.apiUrl, route, parts), {
      method: route.method,
      headers: {
        authorization: `Bearer ${options.token}`,
        ...type,
        ...headers,
      },
      ...content,
      ...defined({ signal }),
      redirect: 'error',
    });
  } catch (error) {
    throw unavailable(options, error);
  }
}

/**
 * Makes one call whose answer is JSON.
 * @throws KilnError with the code of the problem document; API_UNAVAILABLE; the signal's reason where it was aborted
 */
export async function call(
  options: HttpClientOptions,
  route: Route,
  parts: RequestParts,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  const timeout = AbortSignal.timeout(options.timeoutMs);
  const both = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  try {
    const reply = await send(options, route, parts, { signal: both });
    const schema = route.responses?.[reply.status];
    if (schema === undefined) throw await problemOf(options, reply);
    const parsed = schema.safeParse(jsonOrUndefined(await boundedText(reply, options.maxBytes)));
    if (parsed.success) return parsed.data;
    throw new KilnError(
      'INTERNAL',
      `The API at ${options.apiUrl} answers in an unknown form; is it Kiln, and of this version?`,
      {
        issues: parsed.error.issues.slice(0, 5).map(({ path, message }) => `${path.join('.')}: ${message}`),
      },
    );
  } catch (error) {
    if (signal?.aborted === true) throw signal.reason;
    throw error instanceof KilnError ? error : unavailable(options, error);
  }
}

/** @returns the error for an answer without success. */
export async function problemOf(options: HttpClientOptions, reply: Response): Promise<KilnError> {
  const text = await boundedText(reply, options.maxBytes);
  const isProblem = reply.headers.get('content-type')?.startsWith(PROBLEM_TYPE) === true;
  const parsed = problemSchema.safeParse(isProblem ? jsonOrUndefined(text) : undefined);
  if (!parsed.success) {
    return new KilnError(
      'INTERNAL',
      `${options.apiUrl} answered ${reply.status} without a problem document; is it Kiln's API?`,
      { status: reply.status },
    );
  }
  const { code, detail, status, errors } = parsed.data;
  return new KilnError(code, detail, { status, ...defined({ errors }) });
}

function contentOf({ body, upload }: RequestParts): { type: Record<string, string>; content: RequestInit } {
  if (upload !== undefined) {
    return { type: { 'content-type': upload.type }, content: { body: upload.bytes, duplex: 'half' } };
  }
  if (body === undefined) return { type: {}, content: {} };
  return { type: { 'content-type': 'application/json' }, content: { body: JSON.stringify(body) } };
}

function urlOf(apiUrl: string, route: Route, { params = {}, query = {} }: RequestParts): URL {
  const path = route.path.replaceAll(PATH_PARAMETER, (_match, kind: string, name: string) => {
    const value = String(params[name] ?? '');
    return kind === ':' ? encodeURIComponent(value) : value.split('/').map(encodeURIComponent).join('/');
  });
  const url = new URL(`${withoutEndSlashes(apiUrl)}${path}`);
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
  return url;
}

/** @returns the error of a request without an answer, or with an incomplete one. */
export function unavailable({ apiUrl }: HttpClientOptions, error: unknown): KilnError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason = messageOf(cause);
  return new KilnError(
    'API_UNAVAILABLE',
    `The API at ${apiUrl} did not answer: ${reason}. Check that its gateway runs.`,
    { apiUrl },
    error,
  );
}

async function boundedText(reply: Response, maxBytes: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for await (const chunk of reply.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new KilnError('PAYLOAD_TOO_LARGE', `The answer is longer than ${maxBytes} bytes.`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
