/** Environment of a service's programs in its guests: folder, search path, variables of its language. */
import { type Language, PYTHON_ENVIRONMENT } from '../../domain/workload/workload.ts';

/** Folder of the service, in the VM that builds it and in the one that runs it. */
export const SERVICE_FOLDER = '/workspace/app';

/** @returns variables that the service's own variables may override */
export function guestEnvironment(language: Language): Readonly<Record<string, string>> {
  const PATH = `${binFolders(language)}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
  // Without a buffer, the last output of a service that crashes is not lost.
  return language === 'python' ? { PATH, PYTHONUNBUFFERED: '1' } : { PATH };
}

function binFolders(language: Language): string {
  const python = language === 'python' ? `${SERVICE_FOLDER}/${PYTHON_ENVIRONMENT}/bin:` : '';
  return `${python}${SERVICE_FOLDER}/node_modules/.bin:`;
}
