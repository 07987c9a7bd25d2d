using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Text;

namespace LogonEvidence
{
    /// <summary>The decider that FAS gets: by a settings file, which it follows while it runs, with the files that it
    /// names. Make one for the process and keep it; it is for many threads at a time.</summary>
    public sealed class EvidenceDecider : IEvidenceDecider
    {
        const int LookMilliseconds = 1000;

        readonly string _path;
        readonly DecisionLog _log;
        readonly Stopwatch _clock = Stopwatch.StartNew();
        readonly object _lock = new object();
        State _state;
        List<string> _files;
        string _stamp;
        long _lookAgain;

        sealed class State
        {
            internal ShimSettings Settings;
            internal DecisionClient Client;
            internal EvidenceAnswer Refusal;
        }

        /// <summary>Never throws: settings that cannot be used deny, and say so in the event log.</summary>
        public EvidenceDecider(string settingsPath, DecisionLog log)
        {
            _path = settingsPath;
            _log = log;
        }

        /// <summary>Never throws, never null.</summary>
        public EvidenceAnswer Decide(EvidenceQuestion question)
        {
            State state = null;
            EvidenceAnswer answer;
            try
            {
                state = Current();
                answer = state.Refusal ?? state.Client.Decide(question);
            }
            catch (Exception error)
            {
                answer = EvidenceAnswer.Denied(Failure.InternalError, null, null, error.GetType().Name);
            }
            ShimSettings settings = state == null ? null : state.Settings;
            if (_log != null)
                _log.Write(answer, settings == null || settings.LogAllows, settings == null ? 120 : settings.EventsPerMinute);
            return answer;
        }

        State Current()
        {
            lock (_lock)
            {
                long now = _clock.ElapsedMilliseconds;
                if (_state != null && now < _lookAgain) return _state;
                _lookAgain = now + LookMilliseconds;
                // A refusal is looked at again each time: what was missing may be there now.
                if (_state != null && _state.Refusal == null && Stamp() == _stamp) return _state;
                _files = Files();
                _stamp = Stamp();
                _state = Load();
                if (_state.Refusal == null && _log != null)
                    _log.Note(EventLogEntryType.Information, DecisionLog.Started,
                        "Settings were read: " + _state.Settings.Services.Count + " service address(es), first "
                        + _state.Settings.Services[0].Authority + ".");
                return _state;
            }
        }

        /// <summary>Which files to follow, told before they are read for good: what changes meanwhile is seen later.</summary>
        List<string> Files()
        {
            var files = new List<string> { _path };
            try
            {
                files.AddRange(ShimSettings.Load(_path).Files);
            }
            catch (SettingsException)
            {
                // Reading it for good says why.
            }
            return files;
        }

        string Stamp()
        {
            var stamp = new StringBuilder();
            foreach (string path in _files)
            {
                try
                {
                    var file = new FileInfo(path);
                    stamp.Append(file.Exists ? file.LastWriteTimeUtc.Ticks + " " + file.Length : "missing").Append('\n');
                }
                catch (Exception error)
                {
                    stamp.Append(error.GetType().Name).Append('\n');
                }
            }
            return stamp.ToString();
        }

        State Load()
        {
            ShimSettings settings = null;
            try
            {
                settings = ShimSettings.Load(_path);
                return new State { Settings = settings, Client = new DecisionClient(settings) };
            }
            catch (SettingsException error)
            {
                return Refusal(settings, Failure.SettingsInvalid, error.Message);
            }
            catch (FailedException failed)
            {
                return Refusal(settings, failed.Failure, failed.Message);
            }
            catch (Exception error)
            {
                return Refusal(settings, Failure.InternalError, error.GetType().Name);
            }
        }

        static State Refusal(ShimSettings settings, Failure failure, string detail)
        {
            return new State { Settings = settings, Refusal = EvidenceAnswer.Denied(failure, null, null, detail) };
        }
    }
}
