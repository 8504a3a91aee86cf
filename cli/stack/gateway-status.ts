import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { paint, plainText } from '../terminal/terminal-text.ts';

/** `kiln gateway status`. @returns exit code; 0 only where everything needed to run a workload answers */
export async function gatewayStatus(context: CliContext, output: CommandOutput): Promise<number> {
  const { apiUrl, source } = await context.findStack();
  const { ready, checks } = await (await context.connect()).readyz();
  output.answer({ apiUrl, source, ready, checks }, () => [
    `${apiUrl}  (${source})  ${ready ? 'ready' : 'not ready'}`,
    ...checks.map(({ name, ok, detail }) => {
      const mark = paint(ok ? '✓' : '✗', ok ? 'green' : 'red', output.color);
      return plainRow(mark, name, detail);
    }),
  ]);
  return ready ? EXIT.ok : EXIT.failed;
}

function plainRow(mark: string, name: string, detail: string | undefined): string {
  return `  ${mark} ${plainText(name).padEnd(14)}${detail === undefined ? '' : `  ${plainText(detail)}`}`.trimEnd();
}
