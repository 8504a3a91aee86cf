// A build that says what it does, warns, and then fails as compilers do: with a place and a reason.
console.log('compiling 1 file');
console.error('src/server.js:1:9 warning: this service is never built');
console.error("src/server.js:3:1 error: Cannot resolve './routes.js'");
process.exitCode = 2;
