/** Opaque cursors: base64url of small JSON. A caller returns them unchanged; anything else is SPEC_INVALID. */
import { z } from 'zod';
import { KilnError } from '../../domain/failures.ts';

/** Longest cursor accepted, characters. */
export const MAX_CURSOR = 8192;

export const cursorSchema = z
  .string()
  .min(1)
  .max(MAX_CURSOR)
  .regex(/^[A-Za-z0-9_-]+$/, 'must be a cursor of an earlier answer');

/** @param value JSON values, small */
export function encodeCursor(value: unknown): string {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** @throws SPEC_INVALID where `cursor` was not made by `encodeCursor` from a value of the schema */
export function decodeCursor<T>(schema: z.ZodType<T>, cursor: string): T {
  const parsed = schema.safeParse(jsonOf(cursor));
  if (parsed.success) return parsed.data;
  throw badCursor();
}

/** @returns the error for a cursor that does not come from this list. */
export function badCursor(): KilnError {
  return new KilnError('SPEC_INVALID', 'The cursor is not one of an earlier answer of this list; begin without one.');
}

function jsonOf(cursor: string): unknown {
  if (!cursorSchema.safeParse(cursor).success) return undefined;
  try {
    const binary = atob(cursor.replaceAll('-', '+').replaceAll('_', '/'));
    return JSON.parse(
      new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(binary, (char) => char.charCodeAt(0))),
    );
  } catch {
    return undefined;
  }
}
