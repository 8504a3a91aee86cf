/** RFC 9457 problem documents: every error of the API, with any status. */
import { z } from 'zod';
import { type FailureCode, failureKind, type KilnError } from '../../domain/failures.ts';
import { failureCodeSchema } from '../identifiers.ts';

export const PROBLEM_TYPE = 'application/problem+json';

export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int().min(400).max(599),
  code: failureCodeSchema,
  detail: z.string(),
  /** Which parts of the request are wrong, where that is the problem. */
  errors: z.array(z.object({ in: z.string(), path: z.string(), message: z.string() })).exactOptional(),
});
export type Problem = z.infer<typeof problemSchema>;

/** @param status where it differs from the status in the failure table */
export function problem(code: FailureCode, detail: string, status: number = failureKind(code).status): Problem {
  return {
    type: `urn:kiln:problem:${code.toLowerCase().replaceAll('_', '-')}`,
    title: titleOf(code),
    status,
    code,
    detail,
  };
}

/** @returns the problem document of an error of the failure table. */
export function problemOf(error: KilnError): Problem {
  return problem(error.code, error.message);
}

function titleOf(code: FailureCode): string {
  const words = code.toLowerCase().replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
