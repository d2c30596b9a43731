@echo off
rem Opens Atelier's page on Windows; sets everything up on first use. Atelier is made and tested on Linux; this file does
rem the same steps as setup.sh and gui.sh in their simplest form.
rem   launchers\gui.bat [options of gui.py]
rem   set ATELIER_TORCH=cpu, cu126 or cu130 first to choose another build of torch; delete .venv to change it later.
setlocal
cd /d "%~dp0.."
set PYTHONUTF8=1
set PY=.venv\Scripts\python.exe

if exist "%PY%" if exist .venv\ready.txt (
    fc /b requirements.txt .venv\ready.txt >nul 2>&1 && goto open
)

if not exist "%PY%" (
    py -3.12 -m venv .venv 2>nul || py -3.11 -m venv .venv 2>nul || py -3.13 -m venv .venv 2>nul || py -3.10 -m venv .venv 2>nul || python -m venv .venv
)
if not exist "%PY%" (
    echo Atelier needs Python 3.10 to 3.13. Install 3.12 from https://www.python.org/downloads/ and start this again.
    goto failed
)

if not defined ATELIER_TORCH (
    where nvidia-smi >nul 2>&1 && set ATELIER_TORCH=cu130
)
if not defined ATELIER_TORCH set ATELIER_TORCH=cpu
echo Setting up Atelier in "%CD%\.venv" with torch for %ATELIER_TORCH% (0.6 GB to download for cpu, 3 GB for CUDA).
"%PY%" -m pip install --no-input torch==2.13.0+%ATELIER_TORCH% torchvision==0.28.0+%ATELIER_TORCH% --extra-index-url https://download.pytorch.org/whl/%ATELIER_TORCH%
if errorlevel 1 goto failed
"%PY%" -m pip install --no-input -r requirements.txt
if errorlevel 1 goto failed
copy /y requirements.txt .venv\ready.txt >nul
"%PY%" -m engine doctor

:open
"%PY%" gui.py %*
if errorlevel 1 goto failed
exit /b 0

:failed
echo.
echo That did not work; the lines above say why. Start this file again to go on from here.
pause
exit /b 1
