# Command-line tools: pip, ls, pytest, unittest, bash itself.
python -m pip install --no-index nothing-of-that-name
python -m pip install --no-such-option
ls /nowhere
nowhere_command
bash -c 'set -x; x=1; echo "$x errors"'
python -m json.tool /nowhere
python -m nowhere
echo 'exit "$UNSET_NAME"' | bash -u
mkdir -p corpus_project && cd corpus_project
cat > test_it.py <<'END'
import logging, unittest, warnings
class T(unittest.TestCase):
    def test_fine(self): warnings.warn("old", DeprecationWarning)
    def test_fail(self): logging.warning("about to fail"); self.assertEqual(1, 2)
    def test_error(self): raise ValueError("x")
END
python -m pytest -q -p no:cacheprovider test_it.py
python -m unittest -v test_it
openssl s_client -connect 127.0.0.1:1 </dev/null
curl --no-progress-meter http://127.0.0.1:1/
git clone /nowhere
tar xf /nowhere.tar
grep --color=always -n ERROR /nowhere test_it.py
python -c 'import resource,sys; sys.stderr.write("warning: low words\nWarning: something\nerror: a tool says\nError: it failed\nfatal: no\n")'
