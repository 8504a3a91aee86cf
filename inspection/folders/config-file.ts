/** JSON files written by people: read with limits; errors name place and key. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import jsonc from 'jsonc-parser';
import type { z } from 'zod';
import { KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';

export interface ConfigFile<T> {
  readonly value: T;
  readonly text: string;
}

/**
 * @param folder of the file; every message contains its name
 * @returns undefined where there is no such file
 * @throws CONFIG_INVALID with line and column where it is not JSON, with the key where it breaks the schema
 */
export async function readConfigFile<T>(
  folder: string,
  name: string,
  schema: z.ZodType<T>,
  maxBytes: number,
): Promise<ConfigFile<T> | undefined> {
  const text = await readConfigText(folder, name, maxBytes);
  return text === undefined ? undefined : { value: parseConfig(parseJson(text, name), name, schema), text };
}

/** @throws CONFIG_INVALID with the keys that break the schema */
export function parseConfig<T>(value: unknown, name: string, schema: z.ZodType<T>): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new KilnError('CONFIG_INVALID', `${name}: ${parsed.error.issues.slice(0, 5).map(explain).join('; ')}`, {
    file: name,
  });
}

/** @returns undefined where there is no such file. @throws CONFIG_INVALID where it is not a file, or too large */
export async function readConfigText(folder: string, name: string, maxBytes: number): Promise<string | undefined> {
  const path = join(folder, name);
  let handle: Awaited<ReturnType<typeof open>>;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    if (isErrno(error, 'ELOOP', 'EACCES')) {
      throw new KilnError('CONFIG_INVALID', `${name} cannot be read; check its permissions.`, { file: name });
    }
    throw error;
  }
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw new KilnError('CONFIG_INVALID', `${name} is not a file.`, { file: name });
    if (found.size > maxBytes) {
      throw new KilnError('CONFIG_INVALID', `${name} has ${found.size} bytes; at most ${maxBytes} are read.`);
    }
    return (await handle.readFile('utf8')).replace(/^\ufeff/, '');
  } finally {
    await handle.close();
  }
}

function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const place = placeOfError(text);
    throw new KilnError('CONFIG_INVALID', `${name} is no valid JSON: ${place.what} at ${place.at}`, {
      file: name,
      line: place.line,
      column: place.column,
    });
  }
}

/** Line and column, from 1, of the first error in the JSON. */
function placeOfError(text: string): { what: string; at: string; line: number; column: number } {
  const { what, offset } = firstError(text);
  let line = 1;
  let lineStart = 0;
  for (let end = text.indexOf('\n'); end >= 0 && end < offset; end = text.indexOf('\n', lineStart)) {
    line += 1;
    lineStart = end + 1;
  }
  const column = offset - lineStart + 1;
  return { what, at: `line ${line}, column ${column}`, line, column };
}

/** Stops at the first error: a text of commas has as many errors as bytes. */
function firstError(text: string): { what: string; offset: number } {
  let first: { what: string; offset: number } | undefined;
  const onError = (error: jsonc.ParseErrorCode, offset: number) => {
    first = { what: jsonc.printParseErrorCode(error), offset };
    throw new FirstError();
  };
  try {
    jsonc.visit(text, { onError }, { disallowComments: true, allowTrailingComma: false, allowEmptyContent: false });
  } catch (error) {
    if (error instanceof RangeError) return { what: 'something nested too deeply', offset: text.length };
    if (!(error instanceof FirstError)) throw error;
  }
  return first ?? { what: 'something', offset: text.length };
}

class FirstError extends Error {}

function explain(issue: z.core.$ZodIssue): string {
  const path = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') {
    const keys = issue.keys.map((key) => `"${path === '' ? key : `${path}.${key}`}"`);
    return `unknown key ${keys.join(', ')}; remove it or correct its spelling`;
  }
  return path === '' ? issue.message : `"${path}" ${issue.message}`;
}
