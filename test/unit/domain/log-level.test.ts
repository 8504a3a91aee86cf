import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isAtLeast } from '../../../domain/logs/log-entry.ts';
import { OUTPUT_LEVELS, outputLevel } from '../../../domain/logs/log-level.ts';

const STREAMS = ['stdout', 'stderr'] as const;

const ERRORS = [
  'ERROR something broke',
  'ERROR',
  'ERROR:root:python says it so',
  'FATAL out of memory',
  'CRITICAL: disk',
  'Error: no such file',
  'error: pathspec did not match',
  'fatal: not a git repository',
  'panic: runtime error: index out of range',
  'TypeError: x is not a function',
  'TypeError [ERR_INVALID_ARG_TYPE]: The "path" argument',
  'Uncaught ReferenceError: y is not defined',
  'requests.exceptions.ConnectionError: refused',
  'java.lang.NullPointerException: null',
  'Exception in thread "main" java.lang.Error',
  'Traceback (most recent call last):',
  '[error] 12#12: connect() failed',
  '[FATAL] gone',
  '<crit> gone',
  'npm ERR! code 1',
  'npm error code 1',
  '2026-01-02T03:04:05.678Z ERROR broke',
  '2026-01-02 03:04:05,678 - app.db - ERROR - broke',
  '[2026-01-02 03:04:05 +0000] [ERROR] Worker failed to boot',
  '03:04:05 ERROR broke',
  '  Error: indented',
  '\x1b[31mERROR\x1b[0m in colour',
  'time=2026-01-02T03:04:05Z level=error msg="broke"',
  'level="fatal" msg=x',
  '{"level":"error","msg":"broke"}',
  '{"level":"FATAL"}',
  '{"time":1,"level":50,"msg":"pino"}',
  '{"level":60}',
  '{"severity":"CRITICAL"}',
];
const WARNINGS = [
  'WARN slow',
  'WARNING:root:slow',
  'warning: unused',
  '[warn] slow',
  'DeprecationWarning: old',
  '2026-01-02T03:04:05Z WARN slow',
  '{"level":40}',
  '{"level":"warning"}',
  'level=warn msg=x',
  'npm warn old lockfile',
];
const PLAIN = [
  '',
  'listening on 8080',
  'no errors found',
  'error rate 0.1',
  'Errors: 0',
  'ERROR_COUNT=0',
  'ERROR-free since 2020',
  'no_error: 0',
  'INFO Error: told of another',
  'GET /error 200',
  'mylevel=error',
  '{"level":"info","msg":"ERROR"}',
  '{"level":30}',
  '{"level":{"error":true}}',
  '{"level":"error"',
  '{',
  'null',
  'Traceback of a parcel',
  '    at Object.<anonymous> (/a.js:1:1)',
];

describe('the level of a line of output', () => {
  it.each(ERRORS)('error on either stream: %j', (line) => {
    for (const stream of STREAMS) expect(outputLevel(stream, line)).toBe('error');
  });
  it.each(WARNINGS)('warn on either stream: %j', (line) => {
    for (const stream of STREAMS) expect(outputLevel(stream, line)).toBe('warn');
  });
  it.each(PLAIN)('that of its stream: %j', (line) => {
    for (const stream of STREAMS) expect(outputLevel(stream, line)).toBe(OUTPUT_LEVELS[stream]);
  });

  it('is never less than its stream counts, whatever the line', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...STREAMS),
        fc.oneof(fc.string({ unit: 'binary', maxLength: 2_000 }), fc.json()),
        (stream, line) => isAtLeast(outputLevel(stream, line), OUTPUT_LEVELS[stream]),
      ),
    );
  });

  it('does not depend on what follows its beginning', () => {
    const texts = [...ERRORS, ...WARNINGS].filter((line) => !line.startsWith('{'));
    fc.assert(
      fc.property(fc.constantFrom(...texts), fc.constantFrom(...STREAMS), fc.string(), (line, stream, rest) => {
        expect(outputLevel(stream, `${line} ${rest}`)).toBe(outputLevel(stream, line));
      }),
    );
  });

  it('is found in a line that is as long as a line may be, and made to be slow', () => {
    for (const unit of ['a.', 'Error', '[', '\x1b[0m', '1-', ' ', '{"a":']) {
      expect(LEVELS).toContain(outputLevel('stdout', unit.repeat(8192)));
    }
  });
});

const LEVELS = ['info', 'warn', 'error'];
