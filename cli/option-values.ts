/** Parsers of option values: what they refuse is a usage error of commander's. */
import { InvalidArgumentError } from 'commander';

/** @returns a parser of whole numbers within bounds, both included. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

/** Collects `NAME=VALUE` of a repeatable option; of two with one name, the later one counts. */
export function assignment(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const equals = text.indexOf('=');
  if (equals < 1) throw new InvalidArgumentError('It must have the form NAME=VALUE.');
  return { ...before, [text.slice(0, equals)]: text.slice(equals + 1) };
}

/** @returns a parser that accepts one of the given words. */
export function oneOf<Word extends string>(words: readonly Word[]): (text: string) => Word {
  return (text) => {
    const word = words.find((each) => each === text);
    if (word !== undefined) return word;
    throw new InvalidArgumentError(`It must be one of ${words.join(', ')}.`);
  };
}

/** Collects the values of a repeatable option. */
export function collected(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** @returns a parser of times such as `500ms`, `90s`, `10m`, `2h`, `7d` into milliseconds, within bounds */
export function duration(leastMs: number, mostMs: number): (text: string) => number {
  return (text) => {
    const [, digits = '', unit = ''] = /^(\d{1,12})(ms|s|m|h|d)$/.exec(text) ?? [];
    const ms = digits === '' ? Number.NaN : Number(digits) * (UNITS_MS[unit] ?? Number.NaN);
    if (ms >= leastMs && ms <= mostMs) return ms;
    throw new InvalidArgumentError(`It must be a time such as 90s, 10m or 2h, from ${leastMs} ms to ${mostMs} ms.`);
  };
}
