/** What an error of the S3 client means. Decided by its type and status, never by its text. */
import { S3ServiceException } from '@aws-sdk/client-s3';
import { KilnError } from '../domain/failures.ts';

/** @returns whether the store answered that there is no such key (or, asked for the bucket itself, no such bucket). */
export function isMissing(error: unknown): boolean {
  return statusOf(error) === 404 && !isNoBucket(error) && !isRefusal(error);
}

/** @returns whether a conditional write was refused. 409 is S3's answer to two conditional writes at once. */
export function isPreconditionFailed(error: unknown): boolean {
  const status = statusOf(error);
  return status === 412 || status === 409;
}

/** @returns whether a part of an object was asked for that begins behind its end. */
export function isBehindEnd(error: unknown): boolean {
  return statusOf(error) === 416;
}

/** @returns whether it is unknown if the request took effect: no answer, a broken one, or one of the 5xx. */
export function isUnanswered(error: unknown): boolean {
  if (error instanceof KilnError) return error.code === 'STORE_UNAVAILABLE';
  const status = statusOf(error);
  return status === undefined || status >= 500 || status === 429;
}

/** @returns the error in the terms of the failure table. */
export function storeFailure(error: unknown, at: { key: string; endpoint: string; bucket: string }): KilnError {
  if (error instanceof KilnError) return error;
  const reason = error instanceof Error ? error.message || error.name : String(error);
  if (isNoBucket(error)) {
    return new KilnError(
      'STORE_UNAVAILABLE',
      `The bucket ${at.bucket} does not exist at ${at.endpoint}; run the set-up, which makes it.`,
      at,
      error,
    );
  }
  if (isMissing(error)) return new KilnError('NOT_FOUND', `There is no object ${at.key} in the store.`, at, error);
  if (isUnanswered(error)) {
    return new KilnError(
      'STORE_UNAVAILABLE',
      `The object store at ${at.endpoint} did not answer: ${reason}. Check that it runs and can be reached.`,
      at,
      error,
    );
  }
  const status = statusOf(error);
  if (isRefusal(error)) {
    return new KilnError(
      'STORE_UNAVAILABLE',
      `The object store at ${at.endpoint} refused the credentials (${reason}); check the configured key and its rights on ${at.bucket}.`,
      at,
      error,
    );
  }
  return new KilnError(
    'INTERNAL',
    `The object store refused the request for ${at.key}: ${reason}`,
    { ...at, status },
    error,
  );
}

export function changedByAnother(key: string): KilnError {
  return new KilnError('STORE_CONFLICT', `Another writer has changed ${key}; read it again and decide anew.`, { key });
}

export function nothingStands(key: string, error: unknown): KilnError {
  const message = `The object store refused to create ${key}, though nothing stands there; try again.`;
  return new KilnError('STORE_UNAVAILABLE', message, { key }, error);
}

/** Names under which servers refuse an access key that they do not know; versitygw does so with 404. */
const UNKNOWN_KEY: readonly string[] = ['InvalidAccessKeyId', 'XAdminUserNotFound'];

function isRefusal(error: unknown): boolean {
  const status = statusOf(error);
  if (status === 401 || status === 403) return true;
  return error instanceof S3ServiceException && UNKNOWN_KEY.includes(error.name);
}

function isNoBucket(error: unknown): boolean {
  return error instanceof S3ServiceException && error.name === 'NoSuchBucket';
}

function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}
