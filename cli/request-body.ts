import type { z } from 'zod';
import { UsageError } from './cli-context.ts';

/**
 * Checks the body that the options form before anything is sent.
 * @param optionOf name of the option by path in the body
 * @throws UsageError that names every option that is wrong
 */
export function checkedBody<T>(schema: z.ZodType<T>, body: unknown, optionOf: Readonly<Record<string, string>>): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const wrong = parsed.error.issues.map(({ path, message }) => {
    const [first = '', second] = path.map(String);
    const option = optionOf[`${first}.${second}`] ?? optionOf[first] ?? path.join('.');
    return first === 'env' && second !== undefined ? `${option} ${second}: ${message}` : `${option}: ${message}`;
  });
  throw new UsageError(wrong.join('; '));
}

/** @returns the fields that have a value */
export function given(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
