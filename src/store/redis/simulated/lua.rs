//! Scripts as a Redis server runs them: Lua 5.1, with `redis.call`, `redis.pcall`, `KEYS` and `ARGV`.

use super::{Bytes, Reply, Simulated};
use ::redis::Value;
use mlua::{Function, Lua, MultiValue, Table, Value as LuaValue};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A Lua, and the scripts that it has compiled, by their hashes.
struct Interpreter {
    lua: Lua,
    compiled: HashMap<String, Function>,
    /// The server that the running script is on.
    server: Rc<RefCell<Simulated>>,
}

thread_local! {
    static INTERPRETER: RefCell<Interpreter> = RefCell::new(Interpreter::new().expect("a Lua with `redis`"));
}

impl Interpreter {
    fn new() -> mlua::Result<Self> {
        let (lua, server) = (Lua::new(), Rc::<RefCell<Simulated>>::default());
        let call = |raises: bool| {
            let server = Rc::clone(&server);
            lua.create_function(move |lua, words: MultiValue| {
                let words = words.into_iter().map(word).collect::<mlua::Result<Vec<_>>>()?;
                match server.borrow_mut().run(&words) {
                    Ok(reply) => to_lua(lua, &reply),
                    Err(message) if raises => Err(mlua::Error::RuntimeError(message)),
                    Err(message) => one_field(lua, "err", &message),
                }
            })
        };
        let redis = lua.create_table_from([("call", call(true)?), ("pcall", call(false)?)])?;
        lua.globals().set("redis", redis)?;
        Ok(Self { lua, compiled: HashMap::new(), server })
    }
}

/// Runs the `script` of this hash on `server`, with the first `keys` of `words` as `KEYS` and the others as `ARGV`.
pub(super) fn evaluate(server: &mut Simulated, hash: &str, script: &[u8], keys: i64, words: &[Bytes]) -> Reply {
    let keys = usize::try_from(keys).ok().filter(|keys| *keys <= words.len());
    let (keys, arguments) = words.split_at(keys.ok_or("ERR Number of keys can't be greater than number of args")?);
    INTERPRETER.with_borrow_mut(|interpreter| {
        let Interpreter { lua, compiled, server: running_on } = interpreter;
        if !compiled.contains_key(hash) {
            let function = lua.load(script).into_function().map_err(|error| error.to_string())?;
            compiled.insert(hash.to_owned(), function);
        }
        std::mem::swap(server, &mut running_on.borrow_mut());
        let reply = run(lua, &compiled[hash], keys, arguments);
        std::mem::swap(server, &mut running_on.borrow_mut());
        reply.map_err(|error| format!("ERR {error}"))?
    })
}

fn run(lua: &Lua, script: &Function, keys: &[Bytes], arguments: &[Bytes]) -> mlua::Result<Reply> {
    let list = |words: &[Bytes]| {
        lua.create_sequence_from(words.iter().map(|word| lua.create_string(word)).collect::<mlua::Result<Vec<_>>>()?)
    };
    lua.globals().set("KEYS", list(keys)?)?;
    lua.globals().set("ARGV", list(arguments)?)?;
    Ok(to_reply(&script.call::<LuaValue>(())?))
}

/// An argument of a command.
fn word(value: LuaValue) -> mlua::Result<Bytes> {
    match value {
        LuaValue::String(text) => Ok(text.as_bytes().to_vec()),
        LuaValue::Integer(number) => Ok(number.to_string().into_bytes()),
        LuaValue::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            Ok(format!("{number:.0}").into_bytes())
        }
        LuaValue::Number(number) => Ok(number.to_string().into_bytes()),
        _ => Err(mlua::Error::RuntimeError("Lua redis lib command arguments must be strings or integers".to_owned())),
    }
}

/// How scripts see an error or a status: a table with one field.
fn one_field(lua: &Lua, name: &str, text: &str) -> mlua::Result<LuaValue> {
    Ok(LuaValue::Table(lua.create_table_from([(name, text)])?))
}

fn to_lua(lua: &Lua, reply: &Value) -> mlua::Result<LuaValue> {
    Ok(match reply {
        Value::Int(number) => LuaValue::Integer(*number),
        Value::BulkString(bytes) => LuaValue::String(lua.create_string(bytes)?),
        Value::Array(values) => {
            let values = values.iter().map(|value| to_lua(lua, value)).collect::<mlua::Result<Vec<_>>>()?;
            LuaValue::Table(lua.create_sequence_from(values)?)
        }
        Value::Okay => one_field(lua, "ok", "OK")?,
        _ => LuaValue::Boolean(false),
    })
}

/// The whole part of a number.
fn whole(number: f64) -> i64 {
    format!("{:.0}", number.trunc()).parse().unwrap_or(0)
}

/// As EVAL converts a script's result: numbers lose their fraction, and an array ends at its first nil.
fn to_reply(value: &LuaValue) -> Reply {
    Ok(match value {
        LuaValue::String(text) => Value::BulkString(text.as_bytes().to_vec()),
        LuaValue::Integer(number) => Value::Int(*number),
        LuaValue::Number(number) => Value::Int(whole(*number)),
        LuaValue::Boolean(true) => Value::Int(1),
        LuaValue::Table(table) => return of_table(table),
        _ => Value::Nil,
    })
}

fn of_table(table: &Table) -> Reply {
    if let Ok(message) = table.raw_get::<String>("err") {
        return Err(message);
    }
    if table.raw_get::<String>("ok").is_ok() {
        return Ok(Value::Okay);
    }
    let mut values = Vec::new();
    for at in 1.. {
        match table.raw_get::<LuaValue>(at) {
            Ok(LuaValue::Nil) | Err(_) => break,
            Ok(value) => values.push(to_reply(&value)?),
        }
    }
    Ok(Value::Array(values))
}
