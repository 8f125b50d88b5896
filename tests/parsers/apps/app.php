<?php
// PHP, served by its own server.
$dead = json_decode(getenv('DEAD'), true);
$opaque = function ($value) use ($dead) {
    if (is_array($value) && count($value) === 1) {
        $value = reset($value);
    }
    return is_string($value) && trim($value) === $dead['opaque'];
};
$uuid = fn($value) => is_string($value)
    && strtolower(preg_replace('/[-{}]/', '', $value)) === str_replace('-', '', $dead['uuid']);
$signed = function ($value) use ($dead) {
    $parts = explode('.', is_string($value) ? $value : '');
    $decoded = fn($part) => base64_decode(strtr($part, '-_', '+/'));
    [$payload, $signature] = explode('.', $dead['signed']);
    return count($parts) === 2 && $parts[0] === $payload && $decoded($parts[1]) === $decoded($signature);
};
$bearer = fn($value) => preg_match('/^Bearer\s+(\S+)$/i', $value ?? '', $found) && $found[1] === $dead['opaque'];
if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/issue') {
    header('Content-Type: application/json');
    echo json_encode(['issued' => $_GET['t']]);
    exit;
}
$found = match (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
    '/cookie' => $opaque($_COOKIE['s_id'] ?? null),
    '/uuid' => $uuid($_COOKIE['u_id'] ?? null),
    '/signed' => $signed($_COOKIE['j_id'] ?? null),
    '/bearer' => $bearer($_SERVER['HTTP_AUTHORIZATION'] ?? null),
    '/header' => $opaque($_SERVER['HTTP_S_ID'] ?? null),
    '/query' => $opaque($_GET['s_id'] ?? null),
    '/json' => $opaque(json_decode(file_get_contents('php://input'), true)['s_id'] ?? null),
    default => false,
};
header('X-Reads: ' . ($found ? 'dead' : 'other'));
header('Content-Type: application/json');
echo '{}';
