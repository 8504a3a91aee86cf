/** @returns the exit code that a query parameter asks for (0 where it is absent); undefined: it is not a valid code */
export function exitCodeOf(parameter: unknown): number | undefined {
  if (parameter === undefined) return 0;
  if (typeof parameter !== 'string' || !/^\d{1,3}$/.test(parameter)) return undefined;
  const code = Number(parameter);
  return code <= 255 ? code : undefined;
}
