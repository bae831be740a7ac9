const http = require('node:http');

http.createServer((request, response) => response.end('ok\n')).listen(Number(process.env.PORT || 8080));
