import type { Command } from 'commander';
import type { CliContext } from '../cli-context.ts';
import { type JsonOption, run, withJson } from '../run-command.ts';

/** Registers `kiln image …`. */
export function registerImageCommands(program: Command, context: CliContext): void {
  const image = program.command('image').description('what guests boot from');
  withJson(image.command('build [name]'))
    .description(
      'build a guest image on this machine (node, python or base; default: node) and publish it to the stack that runs',
    )
    .option('--recipe <file>', 'recipe (default: guest/image/<name>/recipe.json)')
    .action((name: string | undefined, options: JsonOption & { recipe?: string }) =>
      run(context, options, async (output) => {
        const { buildAndPublish } = await import('./build.ts');
        return await buildAndPublish(context, output, { name: name ?? 'node', ...options });
      }),
    );
  withJson(image.command('list'))
    .description('published images')
    .action((options: JsonOption) =>
      run(context, options, async (output) => (await import('./images.ts')).listImages(context, output)),
    );
  withJson(image.command('inspect <ref>'))
    .description('what an image consists of: name, name:tag or name@sha256:…')
    .action((ref: string, options: JsonOption) =>
      run(context, options, async (output) => (await import('./images.ts')).inspectImage(context, output, ref)),
    );
}
