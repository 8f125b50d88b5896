const { hashSync } = require('bcryptjs');

module.exports = {
  uiHost: '127.0.0.1',
  credentialSecret: false,
  adminAuth: {
    type: 'credentials',
    users: [{ username: 'ada', password: hashSync('correct horse', 8), permissions: '*' }],
  },
  telemetry: { enabled: false },
  editorTheme: { tours: false },
};
