. "$(dirname "$0")/../lib.sh"
nfd=$(python3 -c "import unicodedata as u; print(u.normalize('NFD','20250102000000_añadir'))"); nfc=$(python3 -c "import unicodedata as u; print(u.normalize('NFC','20250102000000_añadir'))")
printf -- '-- migrate:up\ninsert into a values (1);\n' > "migrations/$nfd.sql"; up; mv "migrations/$nfd.sql" "migrations/$nfc.sql"
echo "one name in two Unicode forms (a Mac, then Linux); want nothing to do, got:"; up; q "select count(*) from a"
sed -i 's/$/\r/' migrations/20250101000000_a.sql; echo "other line ends; want accepted, got:"; up
printf -- '-- migrate:up\nselect 1;\n' > "$(printf 'migrations/20250105000000_caf\xe9.sql')"; echo "a name that is not UTF-8; want a message, got:"; up
