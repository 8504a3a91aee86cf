/** The level of a line of a program's output. */
import { isAtLeast, type LogLevel } from './log-entry.ts';

/** Level of a line that names none. */
export const OUTPUT_LEVELS: Readonly<Record<'stdout' | 'stderr', LogLevel>> = { stdout: 'info', stderr: 'warn' };

/** Length that is examined of a line that is not JSON, UTF-16 units: programs write the level at the beginning. */
const LOOKED_AT = 400;

/** Colours, time and name that loggers put before the level. */
const COLOUR = /\x1b\[[\d;]{0,20}m/g;
const TIME = /^[[(]?(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z| ?[+-]\d\d:?\d\d)?[\])]?[\s|:-]{0,4}/;
const LOGGER_NAME = /^[\w.]{1,80} - /;

/** Each pattern is applied to the start of the text that is left. */
const ERROR_BEGINNINGS: readonly RegExp[] = [
  // ERROR, FATAL: … and python's CRITICAL:root:…
  /^(?:ERROR|FATAL|CRITICAL|PANIC|SEVERE|EMERG)(?![\w-])/,
  // [error] and <crit>, in any case
  /^[[(<](?:error|err|fatal|critical|crit|panic|severe|emerg|alert)[\])>]/i,
  // error: … and panic: …, TypeError: …, a.b.SomeException: …, Error [ERR_CODE]: …
  /^(?:Uncaught |Unhandled )?(?:error|fatal|critical|panic|[\w$.]{0,80}(?:Error|Exception))(?: \[\w{1,60}\])?:/,
  /^Traceback \(most recent call last\):/,
  /^Exception in thread /,
  /^npm (?:ERR!|error)/,
];
const WARN_BEGINNINGS: readonly RegExp[] = [
  /^WARN(?:ING)?(?![\w-])/,
  /^[[(<]warn(?:ing)?[\])>]/i,
  /^(?:[A-Za-z]{0,40}Warning|warning|warn):/,
  /^npm (?:WARN|warn)/,
];

/** Levels as structured loggers spell them; numbers are those of pino and bunyan. */
const ERROR_WORDS = ['error', 'err', 'fatal', 'critical', 'crit', 'panic', 'severe', 'alert', 'emerg', 'emergency'];
const WARN_WORDS = ['warn', 'warning'];
const ERROR_NUMBER = 50;
const WARN_NUMBER = 40;
const LOGFMT = /(?:^|\s)level="?([A-Za-z]{1,12})"?(?=\s|$)/;

/**
 * @param line one line as it was written, also one that was cut
 * @returns `error` or `warn` where the line says so at its beginning, in JSON (`level`, `severity`) or as `level=…`;
 *   never less severe than the stream's own level: stdout info, stderr warn
 */
export function outputLevel(stream: 'stdout' | 'stderr', line: string): LogLevel {
  return graver(OUTPUT_LEVELS[stream], line.startsWith('{') ? levelOfJson(line) : levelOfText(line));
}

function graver(a: LogLevel, b: LogLevel): LogLevel {
  return isAtLeast(a, b) ? a : b;
}

function levelOfText(line: string): LogLevel {
  const bare = line.slice(0, LOOKED_AT).replace(COLOUR, '').trimStart().replace(TIME, '').replace(LOGGER_NAME, '');
  if (ERROR_BEGINNINGS.some((beginning) => beginning.test(bare))) return 'error';
  if (WARN_BEGINNINGS.some((beginning) => beginning.test(bare))) return 'warn';
  return levelOfWord(LOGFMT.exec(bare)?.[1]);
}

function levelOfJson(line: string): LogLevel {
  let said: unknown;
  try {
    said = JSON.parse(line);
  } catch {
    return 'info';
  }
  if (typeof said !== 'object' || said === null) return 'info';
  const { level, severity }: { level?: unknown; severity?: unknown } = said;
  return graver(levelOfWord(level), levelOfWord(severity));
}

function levelOfWord(word: unknown): LogLevel {
  if (typeof word === 'number') return word >= ERROR_NUMBER ? 'error' : word >= WARN_NUMBER ? 'warn' : 'info';
  if (typeof word !== 'string') return 'info';
  const plain = word.toLowerCase();
  return ERROR_WORDS.includes(plain) ? 'error' : WARN_WORDS.includes(plain) ? 'warn' : 'info';
}
