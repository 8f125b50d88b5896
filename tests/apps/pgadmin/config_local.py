import os

folder = os.environ["APP_FOLDER"]
SERVER_MODE = True
DEFAULT_SERVER_PORT = int(os.environ["APP_PORT"])
DATA_DIR = folder
LOG_FILE = f"{folder}/pgadmin.log"
SQLITE_PATH = f"{folder}/pgadmin.db"
SESSION_DB_PATH = f"{folder}/sessions"
STORAGE_DIR = f"{folder}/storage"
AZURE_CREDENTIAL_CACHE_DIR = f"{folder}/azure"
KERBEROS_CCACHE_DIR = f"{folder}/kerberos"
MASTER_PASSWORD_REQUIRED = False
UPGRADE_CHECK_ENABLED = False
