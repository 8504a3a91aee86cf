/**
 * Ties a schema to its domain type: `const _check: Same<z.infer<typeof schema>, Domain> = true` compiles only where
 * each is assignable to the other, so neither can change a field alone.
 */
export type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
