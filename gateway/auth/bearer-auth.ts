/** Check of the one token of the stack. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { KilnError } from '../../domain/failures.ts';

const MIN_TOKEN_LENGTH = 16;

/**
 * @returns a check of an `Authorization` header whose duration reveals nothing about the token
 * @throws CONFIG_INVALID where the token is too short
 */
export function bearerCheck(token: string): (header: string | undefined) => boolean {
  if (token.length < MIN_TOKEN_LENGTH) {
    throw new KilnError('CONFIG_INVALID', `The API token must have at least ${MIN_TOKEN_LENGTH} characters.`);
  }
  const expected = digest(token);
  return (header) => timingSafeEqual(digest(/^Bearer (\S+)$/i.exec(header ?? '')?.[1] ?? ''), expected);
}

/** Digests all have one length, so the comparison reveals neither content nor length. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
