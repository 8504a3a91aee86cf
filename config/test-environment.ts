/**
 * How often a test repeats one and the same case.
 * @param usually in `npm test`
 * @param whole where `KILN_TEST_WHOLE` is 1
 */
export function repetitions({ usually, whole }: { readonly usually: number; readonly whole: number }): number {
  return process.env.KILN_TEST_WHOLE === '1' ? whole : usually;
}
