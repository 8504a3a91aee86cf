import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { DEV_STACK_FILE, type DevStack, devStackSchema } from '../contracts/host/dev-stack.ts';
import { withoutEndSlashes } from '../domain/base-url.ts';
import { KilnError } from '../domain/failures.ts';

/** Folder of a stack's state, where KILN_HOME names no other. */
const DEFAULT_HOME = '.kiln';

const cliEnvironmentSchema = z.object({
  KILN_API_URL: z.url({ protocol: /^https?$/, error: 'must be an http or https URL' }).exactOptional(),
  KILN_TOKEN: z.string().exactOptional(),
  KILN_HOME: z.string().exactOptional(),
});

/** Which stack a command talks to. */
export interface StackAddress {
  /** Base URL of its gateway. */
  readonly apiUrl: string;
  readonly token: string;
  /** Where the address was found, for messages: `KILN_API_URL`, or the path of a dev.json. */
  readonly source: string;
  /** The stack of this machine, where it was found by its dev.json. */
  readonly local?: { readonly home: string; readonly stack: DevStack };
}

export interface FindStackOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Folder that the search begins in. */
  readonly cwd?: string;
  /** @returns whether a process exists. */
  readonly isAlive?: (pid: number) => boolean;
}

/**
 * Finds the stack that commands talk to: KILN_API_URL and KILN_TOKEN, else dev.json in KILN_HOME, else
 * `.kiln/dev.json` in the current folder or the nearest one above it.
 * @throws CONFIG_INVALID where what was given is wrong; NOT_FOUND where no stack runs
 */
export function findStack(options: FindStackOptions = {}): StackAddress {
  const { env = process.env, cwd = process.cwd(), isAlive = processExists } = options;
  const { KILN_API_URL: apiUrl, KILN_TOKEN: token, KILN_HOME: home } = parseEnvironment(env);
  if (apiUrl !== undefined && token !== undefined) {
    return { apiUrl: withoutEndSlashes(apiUrl), token, source: 'KILN_API_URL' };
  }
  if (apiUrl !== undefined) throw unpaired('KILN_API_URL', 'KILN_TOKEN');
  if (token !== undefined) throw unpaired('KILN_TOKEN', 'KILN_API_URL');
  return home === undefined ? nearestStack(cwd, isAlive) : stackOf(resolve(cwd, home), isAlive);
}

function parseEnvironment(env: Readonly<Record<string, string | undefined>>): z.infer<typeof cliEnvironmentSchema> {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = cliEnvironmentSchema.safeParse(given);
  if (parsed.success) return parsed.data;
  const wrong = parsed.error.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`);
  throw new KilnError('CONFIG_INVALID', `Environment: ${wrong.join('; ')}.`);
}

function unpaired(given: string, missing: string): KilnError {
  return new KilnError(
    'CONFIG_INVALID',
    `${given} is set without ${missing}: set both, or neither to use a local stack.`,
  );
}

function stackOf(home: string, isAlive: (pid: number) => boolean): StackAddress {
  const found = readStack(home, isAlive);
  if (found !== undefined) return found;
  throw new KilnError(
    'NOT_FOUND',
    `No stack runs on ${home} (KILN_HOME): it has no ${DEV_STACK_FILE}. Start one with \`kiln dev\`.`,
    { home },
  );
}

function nearestStack(cwd: string, isAlive: (pid: number) => boolean): StackAddress {
  for (let folder = resolve(cwd); ; folder = dirname(folder)) {
    const found = readStack(join(folder, DEFAULT_HOME), isAlive);
    if (found !== undefined) return found;
    if (folder === dirname(folder)) break;
  }
  throw new KilnError(
    'NOT_FOUND',
    `No running stack found: neither ${resolve(cwd)} nor a folder above it has ${DEFAULT_HOME}/${DEV_STACK_FILE}. ` +
      'Start one with `kiln dev`, or set KILN_API_URL and KILN_TOKEN.',
    { cwd },
  );
}

/** @returns undefined where the home has no dev.json: no stack runs there, or not yet. */
function readStack(home: string, isAlive: (pid: number) => boolean): StackAddress | undefined {
  const path = join(home, DEV_STACK_FILE);
  const text = readIfThere(path);
  if (text === undefined) return undefined;
  const stack = parseStack(text, path);
  if (!isAlive(stack.pid)) {
    throw new KilnError(
      'NOT_FOUND',
      `The stack that ${path} describes is gone: its process ${stack.pid} does not exist any more. Start it again with \`kiln dev\`.`,
      { path, pid: stack.pid },
    );
  }
  return { apiUrl: withoutEndSlashes(stack.apiUrl), token: stack.token, source: path, local: { home, stack } };
}

function parseStack(text: string, path: string): DevStack {
  try {
    return devStackSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new KilnError(
      'CONFIG_INVALID',
      `${path} is no description of a stack: remove it and start \`kiln dev\`.`,
      { path },
      error,
    );
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new KilnError(
      'CONFIG_INVALID',
      `${path} cannot be read (${String(code)}): run as the user whose stack it is.`,
      { path },
      error,
    );
  }
}

/** A process of another user answers EPERM, and lives. */
function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
