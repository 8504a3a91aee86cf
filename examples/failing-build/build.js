// A build that prints what it does, warns, and then fails like a compiler does: with a file position and a reason.
console.log('compiling 1 file');
console.error('src/server.js:1:9 warning: this service is never built');
console.error("src/server.js:3:1 error: Cannot resolve './routes.js'");
process.exitCode = 2;
