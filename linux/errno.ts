/** @returns whether `error` is a failed system call with one of these codes, e.g. `ENOENT` */
export function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.some((code) => code === error.code);
}
